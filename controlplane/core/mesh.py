"""Round trips between regions: measured where somebody measured, declared or guessed elsewhere.

The result always covers every pair of the topology in both directions, so that no later decision has to ask
what an unknown path costs. Only direct values are combined here; paths through a third region are the
cascade's matter.
"""

import math
from collections.abc import Mapping

from controlplane.core.geo import great_circle_km, mesh_rtt_ms
from controlplane.core.model import RegionId, Topology

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
    declared = {
        frozenset(seed.between): seed.rtt_ms for seed in topology.links if seed.rtt_ms is not None
    }
    ids = sorted(topology.regions)
    matrix: dict[Pair, float] = {}
    for a in ids:
        for b in ids:
            if a > b:
                continue
            found = [] if declared_only else [measured.get((a, b)), measured.get((b, a))]
            direct = [rtt for rtt in found if rtt is not None and usable_rtt(rtt)]
            rtt = min(direct) if direct else declared.get(frozenset((a, b)))
            if rtt is None:
                rtt = _guess(topology, a, b)
            matrix[a, b] = matrix[b, a] = rtt
    return matrix


def between(matrix: Mapping[Pair, float], a: RegionId, b: RegionId) -> float:
    """Return the round trip in milliseconds between nodes of two regions, never failing for unknown ones."""
    known = matrix.get((a, b))
    if known is not None:
        return known
    return INTRA_REGION_RTT_MS if a == b else UNKNOWN_PATH_RTT_MS


def _guess(topology: Topology, a: RegionId, b: RegionId) -> float:
    if a == b:
        return INTRA_REGION_RTT_MS
    here, there = topology.regions[a].location, topology.regions[b].location
    return max(INTRA_REGION_RTT_MS, mesh_rtt_ms(great_circle_km(here, there)))
