"""Loads what decisions read: nodes with corrected load, the topology, and round trips between regions."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from controlplane.core.load import free_places
from controlplane.core.mesh import Pair, region_matrix, usable_rtt
from controlplane.core.model import Node, NodeId, NodeState, RegionId
from controlplane.core.openings import OpenNodes
from controlplane.core.session import PeerRtt
from controlplane.core.world import World
from controlplane.services.placements import Placements
from controlplane.services.topologies import Topologies, VersionedTopology
from controlplane.store.base import Store

MATRIX_AGE_S = 1.0
"""The matrix is built anew at most this often: round trips between data centres change over minutes."""

NEWS_MS = 1.0
NEWS_SHARE = 0.05
"""A round trip that differs by less than a millisecond and a twentieth is the same, and not told to other replicas."""


def smallest_rtts(
    rtts: Iterable[PeerRtt], known: Mapping[RegionId, float]
) -> Mapping[RegionId, float]:
    """Return the smallest round trip to each region; `known` itself if nothing about it is news.

    What cannot be a round trip is left out.
    """
    found: dict[RegionId, float] = {}
    for one in rtts:
        if usable_rtt(one.rtt_ms):
            found[one.region] = min(one.rtt_ms, found.get(one.region, one.rtt_ms))
    is_same = found.keys() == known.keys() and all(
        abs(rtt - known[region]) <= NEWS_MS + NEWS_SHARE * known[region]
        for region, rtt in found.items()
    )
    return known if is_same else found


class MeshRtts:
    """The matrix of round trips between regions that follows from what nodes measured."""

    def __init__(self, *, declared_only: bool = False) -> None:
        """Begin without; `declared_only` ignores what was measured for ever (a demo on loopback)."""
        self._declared_only = declared_only
        self._matrix: Mapping[Pair, float] = {}
        self._built: tuple[int, float] | None = None

    def matrix(
        self, current: VersionedTopology, nodes: Mapping[NodeId, Node], *, now: float
    ) -> Mapping[Pair, float]:
        """Return round trips in milliseconds for every pair of regions, at most MATRIX_AGE_S old."""
        fresh = (
            self._built is not None
            and self._built[0] == current.version
            # Whoever decides about many people in a row may ask with a time that is a little older.
            and abs(now - self._built[1]) < MATRIX_AGE_S
        )
        if not fresh:
            self._matrix = region_matrix(
                current.topology, _smallest(nodes.values()), declared_only=self._declared_only
            )
            self._built = (current.version, now)
        return self._matrix


def _smallest(nodes: Iterable[Node]) -> dict[Pair, float]:
    smallest: dict[Pair, float] = {}
    for node in nodes:
        if node.state is NodeState.LOST:
            continue  # what it measured is no longer about now
        for region, rtt in node.rtts.items():
            pair = (node.region, region)
            smallest[pair] = min(rtt, smallest.get(pair, rtt))
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
        self._open_nodes = OpenNodes()
        self._held: tuple[float, Mapping[NodeId, Node]] | None = None

    async def load(self, *, now: float) -> World:
        """Return the world. Raises UnavailableError ("no-topology")."""
        current = await self._topologies.current()
        nodes = await self._nodes(now)
        matrix = self._mesh.matrix(current, nodes, now=now)
        return World(current.topology, nodes, matrix, self._placed(nodes, now), self._open_nodes)

    def with_placements(self, world: World, *, now: float) -> World:
        """Return the same world with today's own placements: for the next decision of a series."""
        return replace(world, placed=self._placed(world.nodes, now))

    def _placed(self, nodes: Mapping[NodeId, Node], now: float) -> Mapping[NodeId, int]:
        placed = self._placements.counts(now=now)
        for id_ in self._placements.full(now=now):
            if id_ in nodes:
                placed[id_] = max(placed.get(id_, 0), free_places(nodes[id_]))
        return placed

    async def _nodes(self, now: float) -> Mapping[NodeId, Node]:
        """Return the nodes. While the shared state is away, those of other replicas stay as they were.

        Nobody says anything of them then, which is no sign of anything.
        """
        health = await self._store.health()
        if health.mode == "normal":
            self._held = None
            return await self._store.nodes()
        if self._held is None or not 0 <= now - self._held[0] < MATRIX_AGE_S:
            me = self._store.replica
            nodes = await self._store.nodes()
            held = {
                id_: one if one.replica == me else replace(one, heard_at=now)
                for id_, one in nodes.items()
            }
            self._held = now, MappingProxyType(held)
        return self._held[1]
