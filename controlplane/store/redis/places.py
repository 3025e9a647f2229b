"""How many places of a node this replica may give away: all that are free, and without Redis only some of them.

With Redis the number goes with the proposal, and the script refuses who has not read what others gave away since.
Without it nobody hears of the others. Then a node belongs to the replica that it reports to, for its reports tell of
everybody's people; all the others together give away a tenth of it, whatever is free.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from controlplane.core.model import Assignment, Node, NodeId
from controlplane.store.reads import spare_places
from controlplane.store.view import View

OTHERS_SHARE = 0.1
"""Of a node's capacity, for all replicas that it does not report to: so much too many may be sent there."""


class Places:
    """What is left of each node."""

    def __init__(
        self,
        view: View,
        nodes: Mapping[NodeId, Node],
        origin: str,
        partitions: int,
        *,
        replicas: Callable[[], int],
    ) -> None:
        """`nodes` is what is known of them at any time, `replicas` returns how many live, this one included."""
        self._view = view
        self._nodes = nodes
        self._origin = origin
        self._replicas = replicas
        self._alone = [Counter[NodeId]() for _ in range(partitions)]
        """Per partition: how many were sent to each node since Redis is out of reach."""

    def spare(self, proposal: Assignment, now: float) -> int | None:
        """See spare_places."""
        return spare_places(self._view, self._nodes.get(proposal.node), proposal, now)

    def spare_alone(self, proposal: Assignment, now: float) -> int | None:
        """Return the same for a replica that does not know what the others gave away."""
        spare, node = self.spare(proposal, now), self._nodes.get(proposal.node)
        others = self._replicas() - 1
        if spare is None or node is None or node.replica == self._origin or others < 1:
            return spare
        share = max(1, int(OTHERS_SHARE * node.capacity / others))
        return min(spare, share - sum(one[node.id] for one in self._alone) - 1)

    def gave_alone(self, partition: int, proposal: Assignment) -> None:
        """Note that a place was given away in that state; call before the proposal is in the view."""
        if self.spare(proposal, proposal.assigned_at) is not None:
            self._alone[partition][proposal.node] += 1

    def rejoined(self, partition: int) -> None:
        """What others gave away is known, and they are told of what was given away here."""
        self._alone[partition].clear()
