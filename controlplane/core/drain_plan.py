"""Where the people of a node would go if it were drained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controlplane.core.allocate import Refused
from controlplane.core.model import NodeId, NodeState, ParticipantId, RegionId, Room, RoomId
from controlplane.core.what_if import WhatIf
from controlplane.core.world import World


@dataclass(frozen=True, slots=True)
class DrainMove:
    """Somebody on the node."""

    room: RoomId
    participant: ParticipantId
    to_region: RegionId | None
    """None when nobody could take the participant."""
    to_node: NodeId | None
    because: str


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What a drain would do."""

    node: NodeId
    moves: tuple[DrainMove, ...]
    """In order of room and participant."""

    @property
    def stranded(self) -> int:
        """How many nobody could take."""
        return sum(move.to_node is None for move in self.moves)


def plan_drain(node: NodeId, rooms: Sequence[Room], world: World, *, now: float) -> DrainPlan:
    """Return where the people whom these rooms have on the node would go, one after the other."""
    here = world.nodes[node]
    drained = replace(here, state=NodeState.DRAINING, why="it is the node to be drained")
    nodes = {**world.nodes, node: drained}
    what_if = WhatIf(replace(world, nodes=nodes), now=now)
    moves: list[DrainMove] = []
    for room in sorted(rooms, key=lambda room: room.id):
        paper = what_if.room(room)
        for who in sorted(paper.people):
            if paper.people[who].node != node:
                continue
            outcome = paper.place_again(who, frozenset({node}))
            if isinstance(outcome, Refused):
                because = ". ".join(outcome.because)
                moves.append(DrainMove(room.id, who, None, None, because))
            else:
                seat, because = outcome.assignment, outcome.decision.because[0]
                moves.append(DrainMove(room.id, who, seat.region, seat.node, because))
    return DrainPlan(node, tuple(moves))
