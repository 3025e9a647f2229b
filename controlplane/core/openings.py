"""The nodes that would take somebody now, by region, with what decides among them."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.core.liveness import STALE_S
from controlplane.core.load import corrected_load, is_ramping
from controlplane.core.model import Node, NodeId, NodeState, RegionId, World

NONE: frozenset[NodeId] = frozenset()


Opening = tuple[bool, float, Node]
"""(ramps, load, node) of a node that no rule refuses: whether as many are on their way to it as should connect at a
time, so that it comes after its neighbours; its load, corrected for own placements; itself. A plain tuple: every
decision makes one per node."""


@dataclass(frozen=True, slots=True)
class Openings:
    """The fleet as one join sees it."""

    by_region: Mapping[RegionId, Sequence[Opening]]
    """Every region that has nodes; an empty list when none of them takes the join."""
    nodes: Mapping[RegionId, Sequence[Node]]
    """All nodes of each of these regions, whatever the rules say."""


def openings(world: World, *, now: float, exclude: frozenset[NodeId] = NONE) -> Openings:
    """Return the open nodes of every region, without those in `exclude`.

    It costs O(nodes) and is the greater part of a decision, so the rules of core/rules.py stand here once more, without
    their sentences; a test holds the two against each other.
    """
    by_region: dict[RegionId, list[Opening]] = {}
    nodes: dict[RegionId, list[Node]] = {}
    placed, serving = world.placed, NodeState.SERVING
    for id_, node in world.nodes.items():
        region = node.region
        if region not in nodes:
            nodes[region], by_region[region] = [], []
        nodes[region].append(node)
        load, ramps = node.load, False
        if id_ in placed:
            load = corrected_load(node, placed[id_])
            ramps = is_ramping(node, placed[id_])
        if (
            load < 1
            and node.state is serving
            and now - node.heard_at <= STALE_S
            and id_ not in exclude
        ):
            by_region[region].append((ramps, load, node))
    return Openings(by_region, nodes)


def emptiest(open_: Sequence[Opening], lot: int) -> Opening:
    """Return the emptiest of at least one opening; equals are told apart by `lot`, which depends on the room.

    Two choices at random would do where every decision sees the same stale load. Here own placements are counted, and
    then the emptiest of all is better: 92 joins over 12 nodes put 8 on the fullest, two choices mostly 9, at times 10.
    """
    best = open_[0]
    draw: tuple[int, NodeId] | None = None
    for one in open_[1:]:
        if one[0] == best[0] and one[1] == best[1]:
            if draw is None:
                draw = drawn(best[2].id, lot)
            other = drawn(one[2].id, lot)
            if other < draw:
                best, draw = one, other
        elif one[0] < best[0] or (one[0] == best[0] and one[1] < best[1]):
            best, draw = one, None
    return best


def drawn(node: NodeId, lot: int) -> tuple[int, NodeId]:
    """Return what orders equal nodes for a lot."""
    return zlib.crc32(node.encode(), lot), node
