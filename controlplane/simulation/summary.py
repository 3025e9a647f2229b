"""What a replay comes to: placement's figures, and the same figures for the baselines."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from controlplane.core.mesh import Pair
from controlplane.core.model import RegionId, Topology
from controlplane.simulation.baselines import BASELINES, PLACEMENT, Baselines
from controlplane.simulation.fleet import Spread
from controlplane.simulation.replay import Counts, Replay
from controlplane.simulation.truth import Case, Cases, Figures, Tally

SAMPLE = 300
"""Rooms that the baselines are computed for when they are sampled; the optimum of one takes some 10 ms."""


class Scope(StrEnum):
    """For how many rooms the baselines are computed."""

    ALL = "all"
    SAMPLE = "sample"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Compared:
    """Ways of placing the same rooms."""

    rooms: int
    figures: Mapping[str, Figures]
    distributions: Mapping[str, Sequence[tuple[float, float]]]
    """(delay in milliseconds, share of pairs within it), for pictures."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a replay comes to."""

    counts: Counts
    rooms: int
    """Rooms with two people or more at once."""
    alone: int
    unknown: int
    """Rooms of which too little truth is known."""
    moves_per_room: float
    probes_per_join: float
    placement: Figures | None
    """Over all rooms that can be scored."""
    distribution: Sequence[tuple[float, float]]
    compared: Compared | None
    spreads: Mapping[RegionId, Spread]

    def data(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        busiest = busiest_region(self.spreads)
        return {
            **{key: _rounded(value) for key, value in asdict(self.counts).items()},
            "rooms": self.rooms,
            "rooms_never_of_two": self.alone,
            "rooms_without_truth": self.unknown,
            "moves_per_room": _rounded(self.moves_per_room),
            "probes_per_join": _rounded(self.probes_per_join),
            "placement": _figures(self.placement),
            "baselines": None if self.compared is None else {
                "rooms": self.compared.rooms,
                **{name: _figures(one) for name, one in self.compared.figures.items()},
            },
            "load_spread": None if busiest is None else _rounded(self.spreads[busiest].ratio),
            "regions": {
                region: {
                    "most_people": one.people, "nodes": one.nodes, "fullest_node": one.fullest,
                    "load_spread": _rounded(one.ratio),
                }
                for region, one in self.spreads.items()
            },
        }  # fmt: skip


def busiest_region(spreads: Mapping[RegionId, Spread]) -> RegionId | None:
    """Return the region of several nodes that had the most people; its spread tells how well load is shared."""
    several = [region for region, one in spreads.items() if one.nodes > 1]
    return max(several, key=lambda region: spreads[region].people, default=None)


def summarize(replay: Replay, cases: Cases, compared: Compared | None) -> Summary:
    """Return the summary of a replay that has come to its end."""
    matrix = replay.fleet.world.region_rtt
    tally = Tally()
    for case in cases.rooms:
        tally.add(case, case.seats, matrix)
    counts = replay.counts
    several = len(cases.rooms) + cases.unknown
    return Summary(
        counts=counts,
        rooms=several,
        alone=cases.alone,
        unknown=cases.unknown,
        moves_per_room=counts.moves / several if several else 0.0,
        probes_per_join=counts.probes / counts.joins if counts.joins else 0.0,
        placement=tally.figures(),
        distribution=tally.distribution(),
        compared=compared,
        spreads=replay.fleet.spreads(),
    )


def sampled(cases: Cases, scope: Scope, *, seed: int) -> Sequence[Case]:
    """Return the rooms that the baselines are to be computed for."""
    if scope is Scope.NONE:
        return ()
    if scope is Scope.ALL or len(cases.rooms) <= SAMPLE:
        return cases.rooms
    return random.Random(seed).sample(cases.rooms, SAMPLE)  # noqa: S311 - repeats itself


class Comparison:
    """Places rooms in every way. `add` takes one at a time, so that a caller can show how far it is."""

    def __init__(self, topology: Topology, matrix: Mapping[Pair, float]) -> None:
        self._baselines = Baselines(topology, matrix)
        self._matrix = matrix
        self._tallies = {name: Tally() for name in (PLACEMENT, *BASELINES)}
        self._rooms = 0

    def add(self, case: Case) -> dict[str, float]:
        """Count a room in every way and return its mean delays in milliseconds."""
        self._rooms += 1
        return {
            name: tally.add(
                case,
                case.seats if name == PLACEMENT else self._baselines.seats(name, case),
                self._matrix,
            )
            for name, tally in self._tallies.items()
        }

    def result(self) -> Compared | None:
        """Return what it comes to; None without rooms."""
        found = dict(self._figures())
        if not found:
            return None
        lines = {name: tally.distribution() for name, tally in self._tallies.items()}
        return Compared(self._rooms, found, lines)

    def _figures(self) -> Iterator[tuple[str, Figures]]:
        for name, tally in self._tallies.items():
            figures = tally.figures()
            if figures is not None:
                yield name, figures


def _figures(figures: Figures | None) -> dict[str, Any] | None:
    return None if figures is None else {k: _rounded(v) for k, v in asdict(figures).items()}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
