"""Builds the whole desired state of a node, and gives it a version that grows with every change."""

import zlib
from dataclasses import replace

from controlplane.core.liveness import REPORT_INTERVAL_MS
from controlplane.core.model import Node, NodeId, NodeState, RegionId
from controlplane.core.session import Endpoint, EndSession, NodeSnapshot, PeerSpec
from controlplane.services.cascade import Cascades
from controlplane.services.ports import TokenSigner
from controlplane.store.base import Store


class Snapshots:
    """Remembers the last content of each node, so that the same content keeps its version."""

    def __init__(self, store: Store, cascades: Cascades, signer: TokenSigner) -> None:
        self._store = store
        self._cascades = cascades
        self._signer = signer
        self._last: dict[NodeId, NodeSnapshot] = {}

    def begin(self, node: NodeId, *, kept: int, now: float) -> None:
        """Start a session: versions go on above what the node kept.

        They begin at the clock's milliseconds, so that a restarted control plane is above its former self.
        """
        last = self._last.get(node)
        version = max(kept + 1, int(now * 1000), last.version + 1 if last else 0)
        self._last[node] = NodeSnapshot(version)

    def forget(self, node: NodeId) -> None:
        """Drop what is remembered of a node."""
        self._last.pop(node, None)

    async def build(
        self, node: Node, *, draining: bool, ends: tuple[EndSession, ...], now: float
    ) -> NodeSnapshot:
        """Return the node's desired state."""
        links = tuple(sorted(await self._cascades.of_node(node.id)))
        nodes = await self._store.nodes()
        linked = {end for link in links for end in (link.from_node, link.to_node)} - {node.id}
        wanted = linked | set(_to_measure(node, tuple(nodes.values())))
        content = NodeSnapshot(
            version=0,
            links=links,
            peers=tuple(_peer(nodes[id_]) for id_ in sorted(wanted) if id_ in nodes),
            token_keys=dict(sorted(self._signer.public_keys().items())),
            draining=draining,
            end_sessions=ends,
            report_interval_ms=REPORT_INTERVAL_MS,
        )
        if node.id not in self._last:
            self.begin(node.id, kept=0, now=now)
        last = self._last[node.id]
        if replace(last, version=0) != content:
            last = replace(content, version=last.version + 1)
            self._last[node.id] = last
        return last


def _to_measure(node: Node, nodes: tuple[Node, ...]) -> list[NodeId]:
    """Return one node of each other region to measure the round trip to.

    Which one depends on who asks, so that the nodes of a region share being asked.
    """
    by_region: dict[RegionId, list[NodeId]] = {}
    for other in nodes:
        if other.region != node.region and other.state is not NodeState.LOST:
            by_region.setdefault(other.region, []).append(other.id)
    turn = zlib.crc32(node.id.encode())
    return [sorted(ids)[turn % len(ids)] for ids in by_region.values()]


def _peer(node: Node) -> PeerSpec:
    media = Endpoint(node.media_host, node.media_port)
    return PeerSpec(node.id, node.region, node.trunk_target, media)
