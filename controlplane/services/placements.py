"""Own placements that no report can know yet, counted per node: the cure for herds.

A placement counts from the decision (not from the store's answer: a burst decides before the first answer) until the
node reports the participant, or it is clear that nobody came. Every join asks for all counts, so they are kept.
"""

from collections.abc import Iterable, Sequence

from controlplane.core.big_dict import BigDict
from controlplane.core.model import Assignment, NodeId, ParticipantId, RoomId
from controlplane.store.base import Admitted, Conflict, Store

RAMP_UP_S = 20.0
"""A client that has not reached its node by then does not come; Jitsi's ramp-up interval has the same length."""

FULL_S = 1.0
"""So long it is believed that a node has no place: no report, no end of a lease changes that much sooner."""

Key = tuple[RoomId, ParticipantId]


class Placements:
    """Who is on the way to which node. Bounded by capacity: a node is full when its places are promised."""

    def __init__(self) -> None:
        self._on_the_way: BigDict[Key, tuple[NodeId, float]] = BigDict()
        """In order of time."""
        self._counts: dict[NodeId, int] = {}
        self._full: dict[NodeId, float] = {}
        """When the store said last that a node has no place."""

    def note(self, node: NodeId, key: Key, *, now: float) -> None:
        """Count a participant as on its way to a node, and nowhere else."""
        self.forget(key)
        self._on_the_way[key] = node, now
        self._counts[node] = self._counts.get(node, 0) + 1

    def forget(self, key: Key) -> None:
        """Count the participant no longer: it left, or the placement was not admitted."""
        found = self._on_the_way.pop(key, None)
        if found is None:
            return
        node, _ = found
        if self._counts[node] > 1:
            self._counts[node] -= 1
        else:
            del self._counts[node]

    def settle(self, outcome: Admitted | Conflict, key: Key, *, now: float) -> None:
        """Count the participant where the store says that it is, when it was not put where it was about to go."""
        if isinstance(outcome, Admitted) and outcome.created:
            return  # where it has been counted since the decision, unless something newer was heard meanwhile
        if isinstance(outcome, Conflict) and outcome.full is not None:
            self._full[outcome.full] = now
        seat = outcome.assignment if isinstance(outcome, Admitted) else outcome.current
        if seat is None or seat.live:
            self.forget(key)
        elif key not in self._on_the_way or self._on_the_way[key][0] != seat.node:
            self.note(seat.node, key, now=now)

    def arrived(self, node: NodeId, keys: Iterable[Key]) -> None:
        """Count those no longer whom the node has just reported."""
        if node not in self._counts:
            return
        for key in keys:
            found = self._on_the_way.get(key)
            if found is not None and found[0] == node:
                self.forget(key)

    def count(self, node: NodeId, *, now: float) -> int:
        """Return how many are on their way to the node."""
        self._forget_overdue(now)
        return self._counts.get(node, 0)

    def counts(self, *, now: float) -> dict[NodeId, int]:
        """Return how many are on their way, for each node that has any."""
        self._forget_overdue(now)
        return dict(self._counts)

    def full(self, *, now: float) -> Sequence[NodeId]:
        """Return the nodes that have no place, as the store has just said: there leases count, not reports."""
        for node in [node for node, at in self._full.items() if abs(now - at) > FULL_S]:
            del self._full[node]
        return tuple(self._full)

    def _forget_overdue(self, now: float) -> None:
        # In order of time, so the first that is young enough ends the search. One from long after `now` was noted
        # before the clock was set back.
        while self._on_the_way:
            key, (_, at) = next(iter(self._on_the_way.items()))
            if abs(now - at) <= RAMP_UP_S:
                return
            self.forget(key)


async def admit_counted(
    store: Store,
    placements: Placements,
    proposal: Assignment,
    *,
    replaces: int | None,
    event: str,
    now: float,
) -> Admitted | Conflict:
    """Admit whom a decision has just placed, counted as on the way from now on; see Store.admit."""
    key = (proposal.room, proposal.participant)
    placements.note(proposal.node, key, now=now)
    outcome = await store.admit(proposal, replaces=replaces, event=event, now=now)
    placements.settle(outcome, key, now=now)
    return outcome
