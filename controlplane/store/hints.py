"""What is known of the fleet, in memory: nodes, what they said of links, drains, networks, the topology."""

from collections.abc import Mapping
from types import MappingProxyType

from controlplane.core.learned import LearnedRtts
from controlplane.core.model import Drain, Node, NodeId
from controlplane.store.base import StoredTopology
from controlplane.store.links import Links


class Hints:
    """Last writer wins."""

    def __init__(self) -> None:
        self.topology: StoredTopology | None = None
        self.nodes: dict[NodeId, Node] = {}
        """To be read; put_node and drop_node change it."""
        self.drains: dict[NodeId, Drain] = {}
        self.learned = LearnedRtts()
        self.links = Links()
        self._all_nodes: Mapping[NodeId, Node] | None = None
        """What was told last of the nodes, as long as it holds: it is asked for more often than a node changes."""

    def put_node(self, node: Node) -> None:
        """Replace what is known of a node."""
        self.nodes[node.id] = node
        self._all_nodes = None

    def drop_node(self, node: NodeId) -> None:
        """Forget a node."""
        self.nodes.pop(node, None)
        self._all_nodes = None
        self.drains.pop(node, None)
        self.links.drop(node)

    def all_nodes(self) -> Mapping[NodeId, Node]:
        """Return the nodes as they are now."""
        if self._all_nodes is None:
            self._all_nodes = MappingProxyType(dict(self.nodes))
        return self._all_nodes

    def all_drains(self) -> Mapping[NodeId, Drain]:
        """Return the drains as they are now."""
        return MappingProxyType(dict(self.drains))
