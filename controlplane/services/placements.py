"""Own placements that no report can know yet, counted per node: the cure for herds.

A placement counts from the decision (not from the store's answer: a burst decides before the first answer) until the
node reports the participant, or it is clear that nobody came.
"""

from collections.abc import Iterable

from controlplane.core.model import NodeId, ParticipantId, RoomId

RAMP_UP_S = 20.0
"""A client that has not reached its node by then does not come; Jitsi's ramp-up interval has the same length."""

Key = tuple[RoomId, ParticipantId]


class Placements:
    """Who is on the way to which node. Bounded by capacity: a node is full when its places are promised."""

    def __init__(self) -> None:
        self._on_the_way: dict[NodeId, dict[Key, float]] = {}
        self._node_of: dict[Key, NodeId] = {}

    def note(self, node: NodeId, key: Key, *, now: float) -> None:
        """Count a participant as on its way to a node, and nowhere else."""
        self.forget(key)
        self._on_the_way.setdefault(node, {})[key] = now
        self._node_of[key] = node

    def forget(self, key: Key) -> None:
        """Count the participant no longer: it left, or the placement was not admitted."""
        node = self._node_of.pop(key, None)
        if node is not None:
            del self._on_the_way[node][key]
            if not self._on_the_way[node]:
                del self._on_the_way[node]

    def arrived(self, node: NodeId, keys: Iterable[Key]) -> None:
        """Count those no longer whom the node has just reported."""
        waiting = self._on_the_way.get(node, {})
        for key in [key for key in keys if key in waiting]:
            self.forget(key)

    def count(self, node: NodeId, *, now: float) -> int:
        """Return how many are on their way to the node."""
        waiting = self._on_the_way.get(node, {})
        # In order of time, so the first that is young enough ends the search. One from long after `now` was noted
        # before the clock was set back.
        while waiting and abs(now - next(iter(waiting.values()))) > RAMP_UP_S:
            self.forget(next(iter(waiting)))
        return len(waiting)

    def counts(self, *, now: float) -> dict[NodeId, int]:
        """Return how many are on their way, for each node that has any."""
        return {
            node: count for node in list(self._on_the_way) if (count := self.count(node, now=now))
        }
