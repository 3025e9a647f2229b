"""A world in which people are moved on paper, one after the other: what plans and dry runs are made with.

The decisions are those that would really be made, by the same code. Whoever was moved counts as if the node's next
report had shown it: a plan spans minutes, not the second in which many connect at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from controlplane.core.allocate import Refused, allocate_again
from controlplane.core.model import (
    Assignment,
    Decision,
    Node,
    NodeId,
    NodeState,
    ParticipantId,
    RegionId,
    Room,
)
from controlplane.core.rtt import completed
from controlplane.core.sums import Sums, adding, sum_up, without
from controlplane.core.world import World


@dataclass(frozen=True, slots=True)
class Seating:
    """Where somebody would sit."""

    assignment: Assignment
    """As it would be; its epoch is the present one."""
    decision: Decision


class WhatIf:
    """One hypothetical world. Not a value: every move changes it."""

    def __init__(self, world: World, *, now: float) -> None:
        self.world = world
        self.now = now

    def room(self, room: Room) -> "PaperRoom":
        """Return a room whose people can be moved."""
        return PaperRoom(self, room)

    def account(self, one: Assignment, to_node: NodeId) -> None:
        """Count somebody at a new node instead of the present one."""
        nodes, placed = dict(self.world.nodes), dict(self.world.placed)
        if not one.live and placed.get(one.node, 0) > 0:
            placed[one.node] -= 1
        elif one.node in nodes:
            nodes[one.node] = _with_people(nodes[one.node], -1)
        if to_node in nodes:
            nodes[to_node] = _with_people(nodes[to_node], 1)
        self.world = replace(self.world, nodes=nodes, placed=placed)


class PaperRoom:
    """A room in a hypothetical world."""

    def __init__(self, what_if: WhatIf, room: Room) -> None:
        self._what_if = what_if
        self.id = room.id
        world = what_if.world
        self.people: dict[ParticipantId, Assignment] = {
            who: completed(one, world.topology, world.region_rtt)
            for who, one in room.assignments.items()
        }
        self._sums: Sums = sum_up(self.people.values())

    def as_room(self) -> Room:
        """Return the room as it would be now."""
        return Room(self.id, dict(self.people))

    def place_again(
        self, who: ParticipantId, avoid: frozenset[NodeId] = frozenset()
    ) -> Seating | Refused:
        """Seat somebody anew, as services/moving.py would; whom nobody takes stays where it is."""
        one, what_if = self.people[who], self._what_if
        others = without(self._sums, one)
        decision = allocate_again(one, others, what_if.world, avoid=avoid, now=what_if.now)
        if isinstance(decision, Refused):
            return decision
        return Seating(self.seat(who, decision.node, decision.region), decision)

    def seat(self, who: ParticipantId, node: NodeId, region: RegionId) -> Assignment:
        """Put somebody on a node and return the new assignment."""
        one = self.people[who]
        moved = replace(one, node=node, region=region)
        self._what_if.account(one, node)
        self._sums = adding(without(self._sums, one), moved)
        self.people[who] = moved
        return moved


def virtual_nodes(region: RegionId, count: int, capacity: int, *, now: float) -> Iterable[Node]:
    """Return nodes that a region should have and that did not register yet: empty, and in service."""
    return (
        Node(
            id=NodeId(f"{region}-planned-{number}"),
            region=region,
            http_url="",
            media_host="",
            media_port=0,
            trunk_target="",
            capacity=capacity,
            engine="",
            version="",
            state=NodeState.SERVING,
            heard_at=now,
            registered_at=now,
        )
        for number in range(1, count + 1)
    )


def _with_people(node: Node, change: int) -> Node:
    share = change / node.capacity if node.capacity > 0 else 0.0
    return replace(
        node,
        participants=max(0, node.participants + change),
        load=max(0.0, node.load + share),
    )
