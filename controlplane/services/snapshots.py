"""Builds the whole desired state of a node, and gives it a version that grows with every change."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from controlplane.core.liveness import REPORT_INTERVAL_S, report_interval_s
from controlplane.core.model import Node, NodeId, NodeState, RegionId
from controlplane.core.session import Endpoint, EndSession, LinkSpec, NodeSnapshot, PeerSpec
from controlplane.services.cascade import Cascades
from controlplane.services.duties import Duties
from controlplane.services.ports import TokenSigner
from controlplane.services.turn_servers import TurnServers
from controlplane.store.base import Store

RING_AGE_S = 1.0
"""Whether nodes came or went is looked at at most this often: of a thousand nodes each asks every five seconds."""

POINTS = 16
"""Places of a node on the ring: with as many the busiest is asked by twice as many as the mean, not by five times."""


class _Ring:
    """The nodes of each region on a ring (consistent hashing): who measures whom.

    When a node comes or goes, only those that ask at its places ask somebody else.
    """

    def __init__(self, members: Mapping[NodeId, RegionId]) -> None:
        self.members = members
        self._by_region: dict[RegionId, list[tuple[bytes, NodeId]]] = {}
        for node, region in members.items():
            here = self._by_region.setdefault(region, [])
            here += _places(node)
        for here in self._by_region.values():
            here.sort()

    def to_measure(self, node: Node) -> list[NodeId]:
        """Return one node of each other region to measure the round trip to."""
        turn = (_place(node.id), NodeId(""))
        return [
            here[bisect_left(here, turn) % len(here)][1]
            for region, here in self._by_region.items()
            if region != node.region
        ]


@lru_cache(maxsize=10_000)
def _places(node: NodeId) -> list[tuple[bytes, NodeId]]:
    """Return a node's places on its ring, of which one more node would else make a thousand others anew."""
    return [(_place(f"{node} {point}"), node) for point in range(POINTS)]


def _place(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


@dataclass(slots=True)
class _Last:
    """What a node was last sent."""

    snapshot: NodeSnapshot
    ring: "_Ring | None" = None
    wanted: Sequence[NodeId] = ()
    """The nodes that its links lead to, and those that it measures: as long as neither links nor ring change."""


class Snapshots:
    """Remembers the last content of each node, so that the same content keeps its version."""

    def __init__(
        self,
        store: Store,
        cascades: Cascades,
        signer: TokenSigner,
        duties: Duties,
        turn: TurnServers | None = None,
    ) -> None:
        self._store = store
        self._cascades = cascades
        self._signer = signer
        self._duties = duties
        self._turn = turn
        self._last: dict[NodeId, _Last] = {}
        self._ring = _Ring({})
        self._looked_at = 0.0
        self._interval_s = REPORT_INTERVAL_S

    def begin(self, node: NodeId, *, kept: int, now: float) -> None:
        """Start a session: versions go on above what the node kept.

        They begin at the clock's milliseconds, so that a restarted control plane is above its former self.
        """
        last = self._last.get(node)
        version = max(kept + 1, int(now * 1000), last.snapshot.version + 1 if last else 0)
        self._last[node] = _Last(NodeSnapshot(version))

    def forget(self, node: NodeId) -> None:
        """Drop what is remembered of a node."""
        self._last.pop(node, None)

    def interval_s(self, node: NodeId, version: int) -> float | None:
        """Return how often a node reports that took this version; None if there is a newer one."""
        last = self._last.get(node)
        if last is None or last.snapshot.version != version:
            return None
        return last.snapshot.report_interval_ms / 1000

    async def build(
        self,
        node: Node,
        *,
        draining: bool,
        ends: tuple[EndSession, ...],
        now: float,
        anew: bool = False,
    ) -> NodeSnapshot:
        """Return the node's desired state, the same object while it is the same; `anew` plans all its rooms again."""
        links = await self._cascades.of_node(node.id, anew=anew)
        if node.id not in self._last:
            self.begin(node.id, kept=0, now=now)
        last = self._last[node.id]
        nodes = await self._store.nodes()
        ring = self._ring_of(nodes, now)
        if links is not last.snapshot.links or ring is not last.ring:
            last.ring = ring
            last.wanted = sorted({*_ends(links), *ring.to_measure(node)} - {node.id})
        content = NodeSnapshot(
            version=last.snapshot.version,
            links=links,
            peers=tuple([_peer(nodes[id_]) for id_ in last.wanted if id_ in nodes]),
            token_keys=dict(sorted(self._signer.public_keys().items())),
            draining=draining,
            end_sessions=ends,
            report_interval_ms=round(self._interval_s * 1000),
            control_planes=self._duties.targets,
            turn=await self._turn.orders(node, nodes.values(), now) if self._turn else None,
        )
        if content != last.snapshot:
            last.snapshot = replace(content, version=last.snapshot.version + 1)
        return last.snapshot

    def _ring_of(self, nodes: Mapping[NodeId, Node], now: float) -> _Ring:
        if not 0 <= now - self._looked_at < RING_AGE_S:
            self._looked_at = now
            members = {
                id_: one.region for id_, one in nodes.items() if one.state is not NodeState.LOST
            }
            if members != self._ring.members:
                self._ring = _Ring(members)
            self._interval_s = report_interval_s(len(members), before=self._interval_s)
        return self._ring


def _ends(links: Iterable[LinkSpec]) -> Iterable[NodeId]:
    for link in links:
        yield link.from_node
        yield link.to_node


def _peer(node: Node) -> PeerSpec:
    return _spec(node.id, node.region, node.trunk_target, node.media_host, node.media_port)


@lru_cache(maxsize=16_384)
def _spec(node: NodeId, region: RegionId, target: str, host: str, port: int) -> PeerSpec:
    """Return the same object each time: a node is in the snapshots of a hundred others."""
    return PeerSpec(node, region, target, Endpoint(host, port))
