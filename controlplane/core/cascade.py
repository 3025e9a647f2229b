"""Which links a room needs: from who sits where to one direction per (room, sender, receiver).

Links are direct: each node that has a publisher sends to each other node that has somebody, because everybody receives.
So every track crosses exactly one link to each other node, and a node never forwards what came over a link.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.core.model import NodeId, NodeState, RoomId
from controlplane.core.session import LinkSpec
from controlplane.core.sums import Sums
from controlplane.core.world import World

Links = frozenset[LinkSpec]


class Ends(NamedTuple):
    """All that the links of a room depend on."""

    senders: frozenset[NodeId]
    """Nodes that have a publisher."""
    receivers: frozenset[NodeId]
    """Nodes that have somebody."""


@dataclass(frozen=True, slots=True)
class LinkDiff:
    """What has to change."""

    added: tuple[LinkSpec, ...]
    removed: tuple[LinkSpec, ...]

    @property
    def nodes(self) -> frozenset[NodeId]:
        """The nodes at either end of a change."""
        changed = (*self.added, *self.removed)
        return frozenset(node for link in changed for node in (link.from_node, link.to_node))


def ends(sums: Sums, world: World) -> Ends:
    """Return the nodes that need links.

    Those that are lost or unknown are left out: their people are on their way elsewhere.
    """
    present = [
        group
        for group in sums.values()
        if group.node in world.nodes and world.nodes[group.node].state is not NodeState.LOST
    ]
    return Ends(
        frozenset([group.node for group in present if group.publishers]),
        frozenset([group.node for group in present]),
    )


def plan(room: RoomId, sums: Sums, world: World) -> Links:
    """Return the links that the room needs now."""
    senders, receivers = ends(sums, world)
    return frozenset(
        LinkSpec(room, sender, receiver)
        for sender in senders
        for receiver in receivers
        if sender != receiver
    )


def plan_of_node(room: RoomId, node: NodeId, sums: Sums, world: World) -> Links:
    """Return those of the room's links that begin or end at one node."""
    senders, receivers = ends(sums, world)
    out = [LinkSpec(room, node, other) for other in receivers if node in senders and other != node]
    in_ = [LinkSpec(room, other, node) for other in senders if node in receivers and other != node]
    return frozenset((*out, *in_))


def diff(before: Links, after: Links) -> LinkDiff:
    """Return what turns `before` into `after`, in a fixed order."""
    return LinkDiff(tuple(sorted(after - before)), tuple(sorted(before - after)))


def validate(links: Iterable[LinkSpec], room: RoomId, sums: Sums, world: World) -> tuple[str, ...]:
    """Return what is wrong with the links of a room; empty when all holds.

    Connected: each receiver is reached from each sender. One path and no duplicate: no link twice. No loop: no link to
    its own node; and since nodes forward only what was published at them, no longer loop can exist. Nothing else:
    no link that nobody needs.
    """
    senders, receivers = ends(sums, world)
    needed = {(a, b) for a in senders for b in receivers if a != b}
    problems: list[str] = []
    counted = Counter(links)
    present = {(link.from_node, link.to_node) for link in counted}
    for link, times in sorted(counted.items()):
        name = f"{link.from_node} → {link.to_node}"
        if link.room != room:
            problems.append(f"{name} belongs to room {link.room}")
        if times > 1:
            problems.append(f"{name} is there {times} times: tracks would arrive twice")
        if link.from_node == link.to_node:
            problems.append(f"{name} is a loop")
        elif (link.from_node, link.to_node) not in needed:
            problems.append(f"{name} serves nobody")
    problems += [f"{a} → {b} is missing: not connected" for a, b in sorted(needed - present)]
    return tuple(problems)
