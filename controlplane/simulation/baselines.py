"""Other ways to place the same people, with the truth at hand: what placement is measured against.

"Near" is by great circle from the place that an address database gave, as systems without measurements do it. The
others know every round trip.
"""

from collections.abc import Callable, Mapping, Sequence

from controlplane.core.delay import SFU_MS
from controlplane.core.geo import great_circle_km
from controlplane.core.mesh import Pair, between
from controlplane.core.model import Location, RegionId, Topology
from controlplane.simulation.optimum import optimum
from controlplane.simulation.truth import Case, Seat

PLACEMENT = "placement"
FIRST = "near_first_joiner"
SINGLE = "best_single"
NEAREST = "nearest_cascade"
OPTIMUM = "optimum"
PURE = "optimum_of_delay"

TITLES = {
    PLACEMENT: "placement",
    FIRST: "one SFU near the first joiner",
    SINGLE: "best single SFU",
    NEAREST: "nearest SFU for everybody",
    OPTIMUM: "full-knowledge optimum",
    PURE: "optimum of delay alone",
}
"""Names for people. The last counts no edges: nothing has a smaller mean delay, and it pays for that at the edge."""

BASELINES = (FIRST, SINGLE, NEAREST, OPTIMUM, PURE)


class Baselines:
    """The ways to place one room's people, for one topology."""

    def __init__(self, topology: Topology, matrix: Mapping[Pair, float]) -> None:
        self._regions = [region for region in topology.regions.values() if region.desired_nodes > 0]
        self._matrix = matrix
        self._weight = topology.policy.edge_weight
        self._ways: Mapping[str, Callable[[Case], Sequence[RegionId]]] = {
            FIRST: self._near_first,
            SINGLE: self._best_single,
            NEAREST: self._nearest,
            OPTIMUM: lambda case: self._optimum(case, self._weight),
            PURE: lambda case: self._optimum(case, 0.0),
        }

    def seats(self, way: str, case: Case) -> list[Seat]:
        """Return where everybody of a room would sit: one node per region."""
        return [(region, region) for region in self._ways[way](case)]

    def _near_first(self, case: Case) -> list[RegionId]:
        region = self._near(case.first, self._common(case))
        return [region] * len(case.rows)

    def _best_single(self, case: Case) -> list[RegionId]:
        best = min(
            self._common(case), key=lambda region: (sum(row[region] for row in case.rows), region)
        )
        return [best] * len(case.rows)

    def _nearest(self, case: Case) -> list[RegionId]:
        ids = [region.id for region in self._regions]
        return [
            self._near(location, [region for region in ids if region in row])
            for row, location in zip(case.rows, case.locations, strict=True)
        ]

    def _optimum(self, case: Case, weight: float) -> list[RegionId]:
        ids = [region.id for region in self._regions]
        # Rows that have no figure for a region cannot sit there.
        access = [[row.get(region) for region in ids] for row in case.rows]
        links = [
            [SFU_MS if a == b else between(self._matrix, a, b) / 2 + 2 * SFU_MS for b in ids]
            for a in ids
        ]
        hints = [
            [ids.index(region) for region, _ in case.seats],
            [ids.index(region) for region in self._nearest(case)],
        ]
        return [ids[index] for index in optimum(access, links, weight, hints)]

    def _common(self, case: Case) -> list[RegionId]:
        """Return the regions to which everybody's round trip is known."""
        return [region.id for region in self._regions if all(region.id in row for row in case.rows)]

    def _near(self, place: Location | None, among: Sequence[RegionId]) -> RegionId:
        """Return the nearest region by great circle; the first declared when the place is unknown."""
        if place is None:
            return among[0]
        away = {
            region.id: great_circle_km(place, region.location)
            for region in self._regions
            if region.id in among
        }
        return min(away, key=lambda region: (away[region], region))
