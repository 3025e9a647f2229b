"""A whole simulation: replay, score, baselines; the caller watches and writes down."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controlplane.core.mesh import Pair
from controlplane.core.model import Topology
from controlplane.simulation.inputs import ClientRtts, TraceEvent
from controlplane.simulation.replay import Replay, Settings, Step
from controlplane.simulation.summary import Comparison, Scope, Summary, sampled, summarize
from controlplane.simulation.truth import Cases, cases_of


@dataclass(frozen=True, slots=True)
class Measured:
    """The round trips that a simulation goes by, in milliseconds."""

    regions: Mapping[Pair, float]
    """Between regions; pairs that are missing are declared in the topology or guessed by distance."""
    clients: ClientRtts


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation came to."""

    topology: Topology
    summary: Summary
    cases: Cases
    """The rooms at their fullest, for pictures."""


def simulate(
    topology: Topology,
    measured: Measured,
    trace: Iterable[TraceEvent],
    settings: Settings,
    *,
    scope: Scope,
    on_step: Callable[[Step], None],
    on_room: Callable[[int, int], None],
) -> Outcome:
    """Replay a trace and score it.

    `on_step` gets what came of each event; `on_room` is told how many rooms of how many were placed by the baselines.
    """
    replay = Replay(topology, measured.regions, measured.clients, settings)
    for event in trace:
        on_step(replay.step(event))
    cases = cases_of(replay.records(), measured.clients, seed=settings.seed)
    comparison = Comparison(topology, replay.fleet.world.region_rtt)
    rooms = sampled(cases, scope, seed=settings.seed)
    for number, case in enumerate(rooms, 1):
        comparison.add(case)
        on_room(number, len(rooms))
    return Outcome(topology, summarize(replay, cases, comparison.result()), cases)
