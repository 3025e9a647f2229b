"""The nodes that would take somebody now, by region, with what decides among them.

To look at every node for every join costs O(nodes), and would be the greater part of a decision. But between two
decisions a report or two came and somebody was placed: so what was found is kept, and only the regions in which
something changed are looked at again.
"""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from controlplane.core.liveness import STALE_S
from controlplane.core.load import corrected_load, is_ramping
from controlplane.core.model import Node, NodeId, NodeState, RegionId

NONE: frozenset[NodeId] = frozenset()

Opening = tuple[bool, float, Node]
"""(ramps, load, node) of a node that no rule refuses: whether as many are on their way to it as should connect at a
time, so that it comes after its neighbours; its load, corrected for own placements; itself."""


@dataclass(frozen=True, slots=True)
class Openings:
    """The fleet as one join sees it."""

    by_region: Mapping[RegionId, Sequence[Opening]] = field(default_factory=dict)
    """Every region that has nodes, the emptiest first; nothing where none of them takes the join."""
    nodes: Mapping[RegionId, Mapping[NodeId, Node]] = field(default_factory=dict)
    """All nodes of each of these regions, whatever the rules say."""

    def without(self, exclude: frozenset[NodeId]) -> "Openings":
        """Return the same without these nodes, which are closed to the join."""
        if not exclude:
            return self
        left = {
            region: [one for one in open_ if one[2].id not in exclude]
            for region, open_ in self.by_region.items()
        }
        return Openings(left, self.nodes)


class OpenNodes:
    """What `find` found last. Its answers follow from its arguments alone; what is kept only makes it quick.

    Worlds of one fleet share one. All that is kept is replaced at once and never changed, so threads may share it, too.
    """

    def __init__(self) -> None:
        self._last = _Found()

    def find(
        self, nodes: Mapping[NodeId, Node], placed: Mapping[NodeId, int], *, now: float
    ) -> Openings:
        """Return the open nodes of every region that has any nodes."""
        self._last = last = self._last.as_of(nodes, placed, now)
        return last.openings


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found in which fleet."""

    nodes: Mapping[NodeId, Node] = field(default_factory=dict)
    placed: Mapping[NodeId, int] = field(default_factory=dict)
    openings: Openings = field(default_factory=Openings)
    at: float = -math.inf
    """When the region that was looked at last was looked at."""
    oldest: float = math.inf
    """When the open node of which nothing was heard for the longest was heard, or earlier."""

    def as_of(
        self, nodes: Mapping[NodeId, Node], placed: Mapping[NodeId, int], now: float
    ) -> "_Found":
        """Return what is found now; itself when nothing has changed."""
        due: set[RegionId] = set()
        oldest = self.oldest
        if not (now >= self.at and now - oldest <= STALE_S):
            # An open node may have fallen silent, or a clock was set back.
            due, oldest = set(self.openings.nodes), math.inf
        by_id, of_region = self.nodes, self.openings.nodes
        # Compared as a whole first, which is quick where nearly all are the same objects.
        if nodes != by_id:
            by_id, of_region, moved = self._with(nodes)
            due |= moved
        known = self.placed
        if placed != known:
            changed = [id_ for id_, count in placed.items() if known.get(id_) != count]
            changed += known.keys() - placed.keys()
            due.update([by_id[id_].region for id_ in changed if id_ in by_id])
            known = dict(placed)
        if not due:
            return self if known is self.placed else replace(self, placed=known)
        by_region = dict(self.openings.by_region)
        for region in due:
            if region not in of_region:
                del by_region[region]
                continue
            by_region[region] = open_ = _look(of_region[region], known, now)
            oldest = min([oldest, *[one[2].heard_at for one in open_]])
        return _Found(by_id, known, Openings(by_region, of_region), now, oldest)

    def _with(
        self, nodes: Mapping[NodeId, Node]
    ) -> tuple[
        Mapping[NodeId, Node], Mapping[RegionId, Mapping[NodeId, Node]], AbstractSet[RegionId]
    ]:
        """Return these nodes, the same by region, and the regions in which something is different."""
        known = self.nodes
        changed = {id_ for id_, node in nodes.items() if known.get(id_) is not node}
        changed |= known.keys() - nodes.keys()
        touched: dict[RegionId, dict[NodeId, Node]] = {}
        for id_ in changed:
            before, node = known.get(id_), nodes.get(id_)
            for one in (before, node):
                if one is not None and one.region not in touched:
                    touched[one.region] = dict(self.openings.nodes.get(one.region, {}))
            if before is not None:
                del touched[before.region][id_]
            if node is not None:
                touched[node.region][id_] = node
        of_region = {**self.openings.nodes, **touched}
        return (
            dict(nodes),
            {region: here for region, here in of_region.items() if here},
            touched.keys(),
        )


def _look(
    nodes: Mapping[NodeId, Node], placed: Mapping[NodeId, int], now: float
) -> Sequence[Opening]:
    """Return the open nodes of a region, the emptiest first.

    The rules of core/rules.py stand here once more, without their sentences; a test holds the two against each other.
    """
    open_: list[Opening] = []
    for id_, node in nodes.items():
        load, ramps = node.load, False
        if id_ in placed:
            load = corrected_load(node, placed[id_])
            ramps = is_ramping(node, placed[id_])
        if load < 1 and node.state is NodeState.SERVING and now - node.heard_at <= STALE_S:
            open_.append((ramps, load, node))
    if len(open_) > 1:
        open_.sort(key=_order)
    return open_


def _order(one: Opening) -> tuple[bool, float, NodeId]:
    return one[0], one[1], one[2].id


def emptiest(open_: Sequence[Opening], lot: int) -> Opening:
    """Return the emptiest of at least one opening; equals are told apart by `lot`, which depends on the room.

    `open_` is in the order of Openings.by_region. Two choices at random would do where every decision sees the same
    stale load. Here own placements are counted, and then the emptiest of all is better: 92 joins over 12 nodes put 8 on
    the fullest, two choices mostly 9, at times 10.
    """
    first = open_[0]
    equals = 1
    for one in open_[1:]:
        if one[1] != first[1] or one[0] != first[0]:
            break
        equals += 1
    return open_[lot % equals]
