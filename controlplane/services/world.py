"""Loads what decisions read: nodes with corrected load, the topology, and round trips between regions."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from controlplane.core.mesh import Pair, region_matrix, usable_rtt
from controlplane.core.model import NodeId, RegionId, World
from controlplane.core.session import PeerRtt
from controlplane.services.placements import Placements
from controlplane.services.topologies import Topologies, VersionedTopology
from controlplane.store.base import Store

MATRIX_AGE_S = 1.0
"""The matrix is built anew at most this often: round trips between data centres change over minutes."""

MEASURED_FOR_S = 60.0
"""A measurement that nobody repeated for this long says nothing about now."""


class MeshRtts:
    """Round trips between nodes as they measured them, and the matrix of regions that follows."""

    def __init__(self, *, declared_only: bool = False) -> None:
        """Begin without measurements; `declared_only` ignores them for ever (a demo on loopback)."""
        self._declared_only = declared_only
        self._measured: dict[NodeId, tuple[RegionId, float, tuple[PeerRtt, ...]]] = {}
        self._matrix: Mapping[Pair, float] = {}
        self._built: tuple[int, float] | None = None

    def note(self, node: NodeId, region: RegionId, rtts: Iterable[PeerRtt], *, now: float) -> None:
        """Replace what a node measured. What cannot be a round trip is left out."""
        usable = tuple(one for one in rtts if usable_rtt(one.rtt_ms))
        self._measured[node] = (region, now, usable)

    def forget(self, node: NodeId) -> None:
        """Drop a node's measurements."""
        self._measured.pop(node, None)

    def matrix(self, current: VersionedTopology, *, now: float) -> Mapping[Pair, float]:
        """Return round trips in milliseconds for every pair of regions, at most MATRIX_AGE_S old."""
        fresh = (
            self._built is not None
            and self._built[0] == current.version
            and 0 <= now - self._built[1] < MATRIX_AGE_S
        )
        if not fresh:
            self._matrix = region_matrix(
                current.topology, self._smallest(now), declared_only=self._declared_only
            )
            self._built = (current.version, now)
        return self._matrix

    def _smallest(self, now: float) -> dict[Pair, float]:
        smallest: dict[Pair, float] = {}
        for region, at, rtts in self._measured.values():
            if now - at > MEASURED_FOR_S:
                continue
            for one in rtts:
                pair = (region, one.region)
                smallest[pair] = min(one.rtt_ms, smallest.get(pair, one.rtt_ms))
        return smallest


class Worlds:
    """One immutable view per decision."""

    def __init__(
        self, store: Store, topologies: Topologies, mesh: MeshRtts, placements: Placements
    ) -> None:
        self._store = store
        self._topologies = topologies
        self._mesh = mesh
        self._placements = placements

    async def load(self, *, now: float) -> World:
        """Return the world. Raises UnavailableError ("no-topology")."""
        current = await self._topologies.current()
        nodes = await self._store.nodes()
        world = World(current.topology, nodes, self._mesh.matrix(current, now=now))
        return self.with_placements(world, now=now)

    def with_placements(self, world: World, *, now: float) -> World:
        """Return the same world with today's own placements: for the next decision of a series."""
        return replace(world, placed=self._placements.counts(now=now))
