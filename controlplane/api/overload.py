"""Keeps answers in time when there are too many questions: places, a short queue, budgets of tenants, and shedding."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge

from controlplane.core.shedding import (
    DEADLINE_S,
    IDLE,
    PLACES,
    Cost,
    Pressure,
    shed_share,
    why_not_wait,
)
from controlplane.errors import TooManyRequestsError, UnavailableError
from guard.buckets import Buckets

SAMPLE_S = 0.05
"""Between two looks at the loop; a hundredth of a percent of a core."""

SMOOTHING = 0.15
"""Of a new sample: a third of a second, so that one long collection of garbage refuses nobody."""

BURST_S = 2.0
"""Seconds of its rate that a tenant may use at once."""

MAX_TENANTS = 10_000
"""Budgets kept, about 2 MB."""

RETRY_AFTER_S = (1, 4)
"""Spread evenly, or those who were refused together would come back together."""

_OUTCOMES = ("served", "shed", "queue-full", "too-late", "limited")


class Overload:
    """Decides who is served now. `dice` gives numbers from 0 to 1; `tenant_rate` is requests a second, None for any."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        dice: Callable[[], float],
        tenant_rate: float | None = None,
    ) -> None:
        self.pressure = IDLE
        self._dice = dice
        self._budgets: Buckets[str] | None = None
        if tenant_rate is not None:
            burst = max(1.0, tenant_rate * BURST_S)
            self._budgets = Buckets(tenant_rate, burst, MAX_TENANTS)
        self._in_work = 0
        self._waiting: dict[Cost, deque[asyncio.Future[None]]] = {
            cost: deque() for cost in (Cost.REPEAT, Cost.JOIN, Cost.READ)
        }
        """Who waits for a place, those first that are served first."""
        self._served = 0
        self._served_per_s = 0.0
        requests = Counter(
            "thalweg_requests", "Requests for places and reads, by cost (repeat, join, read) and outcome.",
            ["cost", "outcome"], registry=registry,
        )  # fmt: skip
        self._counts = {
            (cost, outcome): requests.labels(cost.name.lower(), outcome)
            for cost in Cost
            for outcome in _OUTCOMES
        }
        gauges = {
            "thalweg_loop_lag_seconds": (
                "How late the event loop is.",
                lambda: self.pressure.lag_s,
            ),
            "thalweg_cpu_share": ("Share of a core in use.", lambda: self.pressure.cpu),
            "thalweg_requests_in_work": ("Requests in work.", lambda: self._in_work),
            "thalweg_requests_waiting": ("Requests that wait for a place.", lambda: self.waiting),
        }
        for name, (about, value) in gauges.items():
            Gauge(name, about, registry=registry).set_function(value)

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return sum(map(len, self._waiting.values()))

    async def run(self) -> None:
        """Watch the loop and the processor until cancelled."""
        at, cpu, served = time.monotonic(), time.process_time(), self._served
        while True:
            await asyncio.sleep(SAMPLE_S)
            before, cpu_before, served_before = at, cpu, served
            at, cpu, served = time.monotonic(), time.process_time(), self._served
            passed = at - before
            self.pressure = Pressure(
                lag_s=_smooth(self.pressure.lag_s, passed - SAMPLE_S),
                cpu=_smooth(self.pressure.cpu, (cpu - cpu_before) / passed),
            )
            self._served_per_s = _smooth(self._served_per_s, (served - served_before) / passed)

    def charge(self, tenant: str, cost: Cost) -> None:
        """Take one request from a tenant's budget. Raises TooManyRequestsError ("tenant-rate")."""
        wait = 0.0 if self._budgets is None else self._budgets.of(tenant).take(time.monotonic())
        if wait:
            self._count(cost, "limited")
            raise TooManyRequestsError(
                "tenant-rate",
                "the tenant asks more often than this control plane is set to serve it",
                "spread the requests; the operator's --tenant-rate is the limit",
                retry_after_s=self._later() + int(wait),
            )

    def check(self, cost: Cost) -> None:
        """Raise UnavailableError ("overloaded") for the share of requests that has to go."""
        share = shed_share(self.pressure, cost)
        if share and self._dice() < share:
            late = f"requests are {self.pressure.lag_s * 1000:.0f} ms late"
            raise self._refused(cost, "shed", late)

    @asynccontextmanager
    async def place(self, cost: Cost) -> AsyncIterator[None]:
        """Hold a place while the block runs. Raises UnavailableError ("overloaded") when there will be none in time."""
        self.check(cost)
        if self._in_work >= PLACES:
            await self._wait(cost)
        else:
            self._in_work += 1
        try:
            yield
        finally:
            self._served += 1
            self._count(cost, "served")
            self._pass_on()

    # ---------------------------------------------------------------------------------------------

    async def _wait(self, cost: Cost) -> None:
        """Return with a place."""
        why_not = why_not_wait(self._before(cost), self._served_per_s)
        if why_not is not None:
            raise self._refused(cost, "queue-full", why_not)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting[cost]
        queue.append(turn)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await turn
        except BaseException as error:
            if turn in queue:
                queue.remove(turn)
            elif turn.done() and not turn.cancelled():
                self._pass_on()  # it came, and nobody is there to take it
            if isinstance(error, TimeoutError):
                waited = f"no place came free within {DEADLINE_S:.0f} s"
                raise self._refused(cost, "too-late", waited) from error
            raise

    def _before(self, cost: Cost) -> int:
        """Return how many wait who are served before a newcomer of this cost: dearer ones take nobody's turn."""
        before = 0
        for one, queue in self._waiting.items():
            before += len(queue)
            if one is cost:
                break
        return before

    def _pass_on(self) -> None:
        """Give a place to who waits first among the cheapest, or have one more."""
        for queue in self._waiting.values():
            while queue:
                turn = queue.popleft()
                if not turn.done():  # or it was given up a moment ago
                    turn.set_result(None)
                    return
        self._in_work -= 1

    def _refused(self, cost: Cost, outcome: str, why: str) -> UnavailableError:
        self._count(cost, outcome)
        hint = "come again after Retry-After; what is in force goes on meanwhile"
        return UnavailableError("overloaded", why, hint, retry_after_s=self._later())

    def _count(self, cost: Cost, outcome: str) -> None:
        self._counts[cost, outcome].inc()

    def _later(self) -> int:
        low, high = RETRY_AFTER_S
        return min(high, low + int(self._dice() * (high - low + 1)))


def _smooth(before: float, new: float) -> float:
    return max(0.0, before + SMOOTHING * (new - before))
