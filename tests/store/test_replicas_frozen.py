"""Two replicas over a Redis that stands still, dies and comes back, while people join.

I5  Every join is answered, whatever Redis does, and waits for it once at most: for one call that is given up after
    OPERATION_TIMEOUT_S, after which nobody waits until Redis is heard again. When it is back, so is normal mode, and
    the replicas agree on the newest of all that was answered; nothing that was acknowledged is lost.

Time-outs are counted instead of measured: a busy machine makes them longer, and not more.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from controlplane.adapters.clock import SystemClock
from controlplane.core.model import ParticipantId, RoomId
from controlplane.errors import NotFoundError
from controlplane.store.redis import commit, patience, seats, shard, store
from controlplane.store.redis.commit import Committer
from controlplane.store.redis.connect import OPERATION_TIMEOUT_S, connector_of
from controlplane.store.redis.outbox import Outbox
from controlplane.store.redis.scripts import Scripts
from controlplane.store.redis.seats import Seats
from controlplane.store.redis.store import RedisStore
from controlplane.store.redis.target import parse_target
from controlplane.store.view import Key
from tests.fakes.clock import FakeClock
from tests.services.system import System, a_join
from tests.store.machines import come_to_rest, run_machine
from tests.store.servers import RedisServer

T = TypeVar("T")

ANSWER_WITHIN_S = 1.0

QUICK_TIMEOUT_S = 0.02
SHARE = QUICK_TIMEOUT_S / OPERATION_TIMEOUT_S
"""Of the real times: a second without Redis takes 57 ms here."""

HUNG_S = 60.0
"""Nothing takes so long but what never ends."""

REGIONS = "eu-frankfurt us-virginia"

replicas = st.sampled_from([0, 1])
people = st.tuples(st.sampled_from(["r1", "r2"]), st.sampled_from(["ana", "bob"]))
sessions = st.sampled_from(["s1", "s2"])
places = st.sampled_from(["frankfurt", "virginia"])

_names = itertools.count()


class RealClock(FakeClock):
    """The real time, for what wants one that can be turned."""

    def now(self) -> float:
        return SystemClock().now()


class FrozenMachine(RuleBasedStateMachine):
    """Two replicas and what they answered."""

    server: RedisServer
    scripts: Scripts
    broken: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.state = "up"
        """Or "frozen" or "dead"."""
        self.granted: dict[Key, dict[int, tuple[str, str]]] = {}
        """Epoch → session and node, of everything that was answered."""
        self.safe: dict[Key, int] = {}
        """The highest epoch that was acknowledged without `degraded`."""
        self.ended: dict[Key, int] = {}
        self.may_be_ended: dict[Key, int] = {}
        """The newest there was when a leave was given up: Redis may have done it, or only what this replica knew."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(self._bounded(work))

    async def _bounded(self, work: Coroutine[Any, Any, T]) -> T:
        async with asyncio.timeout(HUNG_S):
            return await work

    @initialize()
    def start(self) -> None:
        self.server.command("FLUSHALL")
        with calls_may_take(HUNG_S):  # this is before anything befalls Redis
            self.run(self._start())

    async def _start(self) -> None:
        self.stores = [await self._opened() for _ in range(2)]
        self.systems = [System(store=one, clock=RealClock()) for one in self.stores]
        await self.systems[0].topologies.load(REGIONS)
        await come_to_rest(self.stores)
        await self.systems[0].serving("fra-1", "eu-frankfurt")
        await self.systems[1].serving("vir-1", "us-virginia")
        await come_to_rest(self.stores)

    async def _opened(self) -> RedisStore:
        opened = RedisStore.opened(
            connector_of(parse_target(self.server.url)),
            replica=f"f{next(_names)}",
            now=SystemClock().now,
            scripts=self.scripts,
        )
        return await self.stack.enter_async_context(opened)

    def teardown(self) -> None:
        self._bring_back()
        self.run(self.stack.aclose())
        self.runner.close()

    # --- what people do -----------------------------------------------------------------------------

    @rule(at=replicas, who=people, session=sessions, place=places)
    def join(self, at: int, who: tuple[str, str], session: str, place: str) -> None:
        self.run(self._join(at, who, session, place))

    @rule(who=people, session=sessions, other=sessions, place=places)
    def join_at_both(self, who: tuple[str, str], session: str, other: str, place: str) -> None:
        async def race() -> None:
            await asyncio.gather(
                self._join(0, who, session, place), self._join(1, who, other, place)
            )

        self.run(race())

    @rule(at=replicas, session=sessions, place=places)
    def all_join(self, at: int, session: str, place: str) -> None:
        """Everybody at once, as when Redis falls silent under load."""

        async def storm() -> None:
            everybody = itertools.product(("r1", "r2"), ("ana", "bob"))
            await asyncio.gather(*(self._join(at, who, session, place) for who in everybody))

        self.run(storm())

    @rule(at=replicas, who=people)
    def leave(self, at: int, who: tuple[str, str]) -> None:
        key, committer = key_of(who), self.stores[at]._shards[0].committer
        before = given_up(committer)
        try:
            ended = self.run(self.systems[at].joins.leave(*key))
        except NotFoundError:
            return
        self.ended[key] = max(ended.epoch, self.ended.get(key, 0))
        if given_up(committer) > before:
            self.may_be_ended[key] = max(self.granted[key])

    # --- what befalls Redis -------------------------------------------------------------------------

    @precondition(lambda self: self.state == "up")
    @rule()
    def freeze(self) -> None:
        self.server.freeze()
        self.state = "frozen"

    @precondition(lambda self: self.state == "frozen")
    @rule()
    def thaw(self) -> None:
        """What was on its way into the frozen server is done now; nobody waits for it any more."""
        self._bring_back()

    @precondition(lambda self: self.state != "dead")
    @rule()
    def kill(self) -> None:
        self.server.kill()
        self.state = "dead"

    @precondition(lambda self: self.state == "frozen")
    @rule()
    def wait(self) -> None:
        """Longer than a call may take, and than it may be on its way."""
        self.run(asyncio.sleep(1.2 * seats.IN_FLIGHT_S))

    @rule()
    def come_to_rest(self) -> None:
        self._settle()

    def _bring_back(self) -> None:
        if self.state == "frozen":
            self.server.thaw()
        elif self.state == "dead":
            self.server.start()
        self.state = "up"

    # --- what has to hold ---------------------------------------------------------------------------

    def _settle(self) -> None:
        self._bring_back()
        self.run(come_to_rest(self.stores))
        expected = {
            key: grants[top]
            for key, grants in self.granted.items()
            if (top := max(grants)) > self.ended.get(key, 0)
        }
        for one in self.stores:
            found = {(seat.room, seat.participant): (seat.session, seat.node) for seat in one._view}
            for key in expected.keys() - found.keys():
                if max(self.granted[key]) <= self.may_be_ended.get(key, 0):
                    del expected[key]
            if found != expected:
                self._broke(f"I5: a replica has {found}, the newest that was answered {expected}")
        first, second = ({(a.room, a.participant): a.epoch for a in s._view} for s in self.stores)
        if first != second:
            self._broke(f"I1: one replica has {first}, the other {second}")
        for key, epoch in self.safe.items():
            if epoch <= max(self.ended.get(key, 0), self.may_be_ended.get(key, 0)):
                continue  # who left may be forgotten with the data; later epochs are above all the same
            if self.run(self.stores[0].last_epoch(*key)) < epoch:
                self._broke(f"I5: {key} was acknowledged with {epoch}, and that is lost")

    def _broke(self, what: str) -> None:
        self.broken.append(what)
        raise AssertionError(what)

    # --- inside -------------------------------------------------------------------------------------

    async def _join(self, at: int, who: tuple[str, str], session: str, place: str) -> None:
        key = key_of(who)
        committer = self.stores[at]._shards[0].committer
        before = given_up(committer)
        joined = await self.systems[at].joins.join(
            a_join(who[1], place, session=session, room=key[0])
        )
        if given_up(committer) > before + 1:
            self._broke(f"I5: a join waited for {given_up(committer) - before} calls")
        seat = joined.assignment
        mine = (seat.session, seat.node)
        if self.granted.setdefault(key, {}).setdefault(seat.epoch, mine) != mine:
            self._broke(f"I1: two assignments at one epoch: {self.granted[key]} and {mine}")
        if not joined.degraded:
            self.safe[key] = max(seat.epoch, self.safe.get(key, 0))


def key_of(who: tuple[str, str]) -> Key:
    return RoomId(who[0]), ParticipantId(who[1])


_given_up: dict[Committer, int] = {}


def given_up(committer: Committer) -> int:
    """Return how many calls to Redis this committer gave up because they took too long."""
    return _given_up.get(committer, 0)


@contextmanager
def calls_may_take(seconds: float) -> Iterator[None]:
    """Give calls up after so long instead."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (commit, shard):
            patch.setattr(module, "OPERATION_TIMEOUT_S", seconds)
        yield


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with closing(RedisServer()) as server:
        yield server


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that were given up are counted."""
    send = Committer._send

    async def counted(self: Committer, *args: Any) -> None:
        was_there = self.link is not None
        await send(self, *args)
        if was_there and self.link is None:
            _given_up[self] = given_up(self) + 1

    monkeypatch.setattr(Committer, "_send", counted)


@pytest.fixture
def tenfold(counted: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All times are less than a tenth of the real ones, in proportion."""
    for name in ("PROBE_S", "POLL_S"):
        monkeypatch.setattr(shard, name, 0.002)
    monkeypatch.setattr(store, "EVENTS_RETRY_S", 0.002)
    monkeypatch.setattr(seats, "IN_FLIGHT_S", seats.IN_FLIGHT_S * SHARE)
    with calls_may_take(QUICK_TIMEOUT_S):
        yield


def test_one_call_that_is_given_up_leaves_time_for_the_answer() -> None:
    """With as long again for a process that stood still itself."""
    longest = OPERATION_TIMEOUT_S + patience.LATE_S + patience.GRACE_S
    assert 2 * longest <= ANSWER_WITHIN_S


@pytest.mark.usefixtures("counted")
def test_what_a_frozen_redis_finds_too_late_is_not_done(own_server: RedisServer) -> None:
    """It would be above everything that was decided since, by those who did not wait for it."""
    machine = _machine(own_server)
    try:
        ana = ("r1", "ana")
        machine.join(at=0, who=ana, session="s1", place="frankfurt")
        machine.come_to_rest()
        machine.freeze()
        machine.join(at=0, who=ana, session="s2", place="frankfurt")
        machine.join(at=0, who=ana, session="s1", place="virginia")
        machine.wait()
        machine.come_to_rest()
        assert len(machine.granted[key_of(ana)]) == 3
    finally:
        machine.teardown()
    assert machine.broken == []


@pytest.mark.usefixtures("counted")
def test_a_frozen_redis_does_not_end_too_late_whom_nobody_ended(own_server: RedisServer) -> None:
    """Whoever left alone knew of one place; by then there was a newer one."""
    machine = _machine(own_server)
    try:
        ana = ("r1", "ana")
        machine.join(at=0, who=ana, session="s1", place="frankfurt")
        machine.come_to_rest()
        machine.join(at=0, who=ana, session="s2", place="virginia")
        machine.freeze()
        machine.leave(at=1, who=ana)
        machine.wait()
        machine.come_to_rest()
        newest = machine.stores[0]._view.live(key_of(ana))
        assert newest is not None
        assert newest.session == "s2"
    finally:
        machine.teardown()
    assert machine.broken == []


def _machine(server: RedisServer) -> FrozenMachine:
    members = {"server": server, "scripts": Scripts.load(), "broken": []}
    machine: FrozenMachine = type("Machine", (FrozenMachine,), members)()
    machine.start()
    return machine


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("tenfold")
def test_an_outbox_that_forgets_is_found(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When what could not be sent is not sent later, the machine has to notice."""
    monkeypatch.setattr(Outbox, "put_back", lambda *_: None)
    monkeypatch.setattr(Seats, "missing", lambda *_, **__: None)
    assert run_machine(FrozenMachine, server=own_server, scripts=Scripts.load())


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("tenfold")
def test_joins_are_answered_whatever_redis_does(own_server: RedisServer) -> None:
    assert run_machine(FrozenMachine, server=own_server, scripts=Scripts.load()) == []
