"""What a placement reads of everything but the room and the newcomer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.core.mesh import Pair
from controlplane.core.model import Node, NodeId, Topology
from controlplane.core.openings import NONE, Openings, OpenNodes


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a placement reads, loaded once per decision."""

    topology: Topology
    nodes: Mapping[NodeId, Node]
    region_rtt: Mapping[Pair, float]
    """Round trips between regions in milliseconds, both directions present, measured or seeded."""
    placed: Mapping[NodeId, int] = field(default_factory=dict)
    """Own placements that a node's last report cannot know yet: stale load is what makes herds."""
    open_nodes: OpenNodes = field(default_factory=OpenNodes, compare=False, repr=False)
    """Shared by the worlds of one fleet, so that a decision looks only at what changed since the one before."""

    def openings(self, *, now: float, exclude: frozenset[NodeId] = NONE) -> Openings:
        """Return the open nodes of every region, without those in `exclude`."""
        return self.open_nodes.find(self.nodes, self.placed, now=now).without(exclude)
