"""Round trips between regions: measured where somebody measured, declared or guessed elsewhere.

The result always covers every pair of the topology in both directions, so that no later decision has to ask
what an unknown path costs. Only direct values are combined here; paths through a third region are the
cascade's matter.
"""

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache

from controlplane.core.geo import great_circle_km, mesh_rtt_ms
from controlplane.core.model import Location, RegionId, Topology

INTRA_REGION_RTT_MS = 1.0
"""Between two nodes of one region: availability zones of one cloud region lie 0.3 to 2 ms apart."""

UNKNOWN_PATH_RTT_MS = 150.0
"""Between regions of which one is no longer declared; about the mean of all pairs of cloud regions."""

MAX_RTT_MS = 10_000.0
"""A measurement above this is a fault of the measurement: nobody holds a call over such a path."""

Pair = tuple[RegionId, RegionId]


def usable_rtt(rtt_ms: float) -> bool:
    """Return whether a number can be a round trip at all: finite, not negative, not above MAX_RTT_MS."""
    return math.isfinite(rtt_ms) and 0 <= rtt_ms <= MAX_RTT_MS


def region_matrix(
    topology: Topology, measured: Mapping[Pair, float], *, declared_only: bool = False
) -> dict[Pair, float]:
    """Return round trips in milliseconds for every pair of regions, both directions equal.

    Per pair: the smaller of the two directions' measurements, else what the topology declares, else the
    distance model. With `declared_only` measurements are ignored (a demo on loopback, where all are near zero).
    """
    known = {_ordered(*one.between): one.rtt_ms for one in topology.links if one.rtt_ms is not None}
    if not declared_only:
        direct: dict[Pair, float] = {}
        for pair, rtt in measured.items():
            if usable_rtt(rtt):
                both = _ordered(*pair)
                direct[both] = min(rtt, direct.get(both, rtt))
        known |= direct
    ids = sorted(topology.regions)
    matrix: dict[Pair, float] = {}
    for at, b in enumerate(ids):
        for a in ids[: at + 1]:
            found = known.get((a, b))
            matrix[a, b] = matrix[b, a] = _guess(topology, a, b) if found is None else found
    return matrix


def between(matrix: Mapping[Pair, float], a: RegionId, b: RegionId) -> float:
    """Return the round trip in milliseconds between nodes of two regions, never failing for unknown ones."""
    known = matrix.get((a, b))
    if known is not None:
        return known
    return INTRA_REGION_RTT_MS if a == b else UNKNOWN_PATH_RTT_MS


def to_each(matrix: Mapping[Pair, float], a: RegionId, others: Iterable[RegionId]) -> list[float]:
    """Return `between` for one region and each of the others."""
    return [
        between(matrix, a, b) if (known := matrix.get((a, b))) is None else known for b in others
    ]


def _guess(topology: Topology, a: RegionId, b: RegionId) -> float:
    if a == b:
        return INTRA_REGION_RTT_MS
    here, there = topology.regions[a].location, topology.regions[b].location
    return _by_distance(here.lat, here.lon, there.lat, there.lon)


@lru_cache(maxsize=32_768)
def _by_distance(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Return the distance model's figure. Kept: the matrix is made anew every second, of up to 20,000 pairs."""
    km = great_circle_km(Location(lat, lon), Location(other_lat, other_lon))
    return max(INTRA_REGION_RTT_MS, mesh_rtt_ms(km))


def _ordered(a: RegionId, b: RegionId) -> Pair:
    return (a, b) if a <= b else (b, a)
