"""How full a node is, corrected for what its last report cannot know.

Stale load is what makes herds: ninety joins within one report interval all see the same emptiest node. So every own
placement counts as a participant until a report shows it (or it is clear that nobody came).
"""

from math import ceil

from controlplane.core.model import Node

ROOM_HEADROOM = 0.9
"""A room stays on its node below this load. Above it newcomers of the room open a second node in the region, which
leaves the last tenth to people who reconnect."""

RAMP_SHARE = 0.2
RAMP_MIN = 10
"""A node to which so many of its places' owners are on their way gets the next one only when its neighbours have as
many: handshakes and first key frames cost more than the call after them, and no report tells of them yet."""

LOAD_SLOPE_MS = 2.0
"""Cost of a full node beside an empty one while both have room: enough to choose the emptier of two equals, too
little to send somebody to a region that is farther by more than a jitter buffer's step."""

CROWDED_FROM = 0.7
CROWDED_MS = 30.0
"""From 70 % the cost climbs by 30 ms until the node is full: the next region takes over gradually, before the first
refusal and not at it."""


def reported_load(load: float, participants: int, capacity: int) -> float:
    """Return the fraction of a node's capacity in use: what it says, and never less than its people are."""
    return max(load, participants / capacity, 0.0) if capacity > 0 else 1.0


def corrected_load(node: Node, placed: int) -> float:
    """Return the fraction of the capacity in use; `placed` are own placements that its last report cannot know."""
    return node.load + placed / max(1, node.capacity) if placed else node.load


def free_places(node: Node) -> int:
    """Return how many placements would fill the node, as far as its last report goes."""
    return max(0, ceil((1 - node.load) * node.capacity))


def is_ramping(node: Node, placed: int) -> bool:
    """Return whether as many are on their way to the node as it should have to connect at a time."""
    return placed >= max(RAMP_MIN, RAMP_SHARE * node.capacity)


def load_ms(load: float) -> float:
    """Return what a load costs in a score, in milliseconds; grows strictly with the load."""
    crowded = max(0.0, load - CROWDED_FROM) / (1 - CROWDED_FROM)
    return LOAD_SLOPE_MS * load + CROWDED_MS * crowded
