"""The virtual clients: they measure exactly what the plan asks for, and their calls are measured by the edge."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import quantiles

from controlplane.core.model import RegionId
from controlplane.core.probes import PlannedProbe, ProbePlan
from controlplane.simulation.inputs import ClientRtts

SAMPLES = 4
"""Samples per region, as thalweg.js takes them."""

SESSION_SAMPLES = 20
"""Samples in a window of core/session_rtt.py."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a probe plan."""

    asked: tuple[RegionId, ...]
    """Regions that the client sent probes to, in order."""
    answers: dict[RegionId, tuple[float, ...]]
    """Round trips in milliseconds of those that answered."""


class Clients:
    """The truth about round trips, which nobody sees but by measuring."""

    def __init__(self, truth: ClientRtts, *, noise_ms: float, seed: int) -> None:
        """Begin; every sample is the truth plus queues of `noise_ms` in the mean (exponentially distributed)."""
        self._truth = truth
        self._noise_ms = noise_ms
        self._numbers: dict[str, int] = {}
        self._dice = random.Random(seed)  # noqa: S311 - a simulation repeats itself

    def measure(
        self, client: str, plan: ProbePlan, more: Callable[[], Iterable[PlannedProbe]]
    ) -> Measured:
        """Return what the client measures: `first`, and `more` only when the best of `first` is too slow."""
        asked = [probe.region for probe in plan.first]
        answers = self._probe(client, asked)
        best = min((min(samples) for samples in answers.values()), default=None)
        above = plan.more_above_ms
        if above is not None and (best is None or best > above):
            further = [probe.region for probe in more()]
            answers |= self._probe(client, further)
            asked += further
        return Measured(tuple(asked), answers)

    def in_session(self, client: str, region: RegionId) -> float | None:
        """Return what an edge of the region measures in the client's call; None when the truth is not known."""
        rtt = self._truth.get(client, {}).get(region)
        if rtt is None or not self._noise_ms:
            return rtt
        # The lower quartile, as core/session_rtt.py takes it of a window.
        return quantiles(self._samples(rtt, SESSION_SAMPLES), n=4)[0]

    def network(self, client: str) -> str:
        """Return the client's network, by which its calls are learned: each has a /24 of its own."""
        number = self._numbers.setdefault(client, len(self._numbers)) % (1 << 24)
        return f"{number >> 16}.{number >> 8 & 255}.{number & 255}.0/24"

    def _probe(self, client: str, regions: list[RegionId]) -> dict[RegionId, tuple[float, ...]]:
        known = self._truth.get(client, {})
        return {region: self._samples(known[region]) for region in regions if region in known}

    def _samples(self, rtt: float, count: int = SAMPLES) -> tuple[float, ...]:
        if not self._noise_ms:
            return (rtt,) * count
        return tuple(rtt + self._dice.expovariate(1 / self._noise_ms) for _ in range(count))
