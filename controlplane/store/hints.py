"""What is known of the fleet, in memory: nodes, what they said of links, drains, networks, the topology."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from controlplane.core.learned import LearnedRtts
from controlplane.core.model import Drain, LinkStatus, Node, NodeId, RoomId
from controlplane.store.base import StoredTopology


class Hints:
    """Last writer wins."""

    def __init__(self) -> None:
        self.topology: StoredTopology | None = None
        self.nodes: dict[NodeId, Node] = {}
        """To be read; put_node and drop_node change it."""
        self.drains: dict[NodeId, Drain] = {}
        self.learned = LearnedRtts()
        self._links: dict[NodeId, dict[RoomId, list[LinkStatus]]] = {}
        self._all_nodes: Mapping[NodeId, Node] | None = None
        """What was told last of the nodes, as long as it holds: it is asked for more often than a node changes."""

    def put_node(self, node: Node) -> None:
        """Replace what is known of a node."""
        self.nodes[node.id] = node
        self._all_nodes = None

    def put_links(self, node: NodeId, links: Sequence[LinkStatus]) -> None:
        """Replace what this node, as sender, said of its links."""
        by_room: dict[RoomId, list[LinkStatus]] = {}
        for link in links:
            by_room.setdefault(link.room, []).append(link)
        self._links[node] = by_room

    def links(self, room: RoomId) -> Sequence[LinkStatus]:
        """Return the links of a room."""
        return [link for node in sorted(self._links) for link in self._links[node].get(room, ())]

    def put_link(self, link: LinkStatus) -> None:
        """Replace what a node said of one link."""
        self.drop_link(link.from_node, link.room, link.to_node)
        self._links.setdefault(link.from_node, {}).setdefault(link.room, []).append(link)

    def drop_link(self, node: NodeId, room: RoomId, to: NodeId) -> None:
        """Forget one link."""
        links = self._links.get(node, {})
        kept = [one for one in links.pop(room, ()) if one.to_node != to]
        if kept:
            links[room] = kept

    def links_of(self, node: NodeId) -> Sequence[LinkStatus]:
        """Return what a node said of its links."""
        return [link for links in self._links.get(node, {}).values() for link in links]

    def drop_node(self, node: NodeId) -> None:
        """Forget a node."""
        self.nodes.pop(node, None)
        self._all_nodes = None
        self.drains.pop(node, None)
        self._links.pop(node, None)

    def all_nodes(self) -> Mapping[NodeId, Node]:
        """Return the nodes as they are now."""
        if self._all_nodes is None:
            self._all_nodes = MappingProxyType(dict(self.nodes))
        return self._all_nodes

    def all_drains(self) -> Mapping[NodeId, Drain]:
        """Return the drains as they are now."""
        return MappingProxyType(dict(self.drains))
