"""Rooms summed up by node: what a decision reads of a room, however many people are in it.

Sums are whole microseconds. Floats would depend on the order in which people came and went, and two replicas could
decide differently.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.core.model import Assignment, NodeId, RegionId, Role, RttEstimate
from controlplane.core.rtt import unknown_rtt


@dataclass(frozen=True, slots=True)
class Group:
    """The people of a room who sit on one node."""

    node: NodeId
    region: RegionId
    publishers: int = 0
    viewers: int = 0
    publisher_us: int = 0
    """Sum of the publishers' round trips to the node, in microseconds."""
    viewer_us: int = 0
    """The same of the viewers."""

    @property
    def count(self) -> int:
        """How many people there are."""
        return self.publishers + self.viewers


Sums = Mapping[NodeId, Group]
"""One group for each node that has somebody."""

NOBODY: Sums = {}


def access_rtt(assignment: Assignment) -> RttEstimate:
    """Return the round trip between a participant and its node's region, as far as it is known."""
    return assignment.rtts.get(assignment.region) or unknown_rtt()


def access_us(assignment: Assignment) -> int:
    """Return the same in whole microseconds: what it adds to the sums."""
    return round(access_rtt(assignment).rtt_ms * 1000)


def sum_up(people: Iterable[Assignment]) -> Sums:
    """Return the sums of these people."""
    sums: dict[NodeId, Group] = {}
    for one in people:
        _add(sums, one, 1)
    return sums


def adding(sums: Sums, one: Assignment) -> Sums:
    """Return the sums with somebody more."""
    changed = dict(sums)
    _add(changed, one, 1)
    return changed


def without(sums: Sums, one: Assignment | None) -> Sums:
    """Return the sums without somebody who is in them; None is nobody."""
    if one is None:
        return sums
    changed = dict(sums)
    _add(changed, one, -1)
    return changed


def _add(sums: dict[NodeId, Group], one: Assignment, sign: int) -> None:
    us = access_us(one)
    speaks, views = (sign, 0) if one.role is Role.PUBLISHER else (0, sign)
    old = sums.get(one.node) or Group(one.node, one.region)
    new = Group(
        one.node,
        one.region,
        old.publishers + speaks,
        old.viewers + views,
        old.publisher_us + speaks * us,
        old.viewer_us + views * us,
    )
    if new.count > 0:
        sums[one.node] = new
    else:
        sums.pop(one.node, None)
