"""Where a participant goes: a pure function of the join, the room, the world and the time.

1. Hard rules first (core/rules.py); each refusal is named.
2. Every region that is left gets a score in milliseconds, lower is better:
   - "delay": the mean one-way delay between the newcomer and the others it exchanges media with;
   - "edge": `edge_weight` times the mean access round trip of such a pair, which is what repairing a loss costs;
   - "load": what a crowded node costs. It is zero on a node that already carries the room and has headroom: a room
     that stays together needs fewer links, and its node was paid for when it was opened.
3. Inside a region the room's own node while it has headroom, else the emptiest, own placements counted. A node that
   many are just connecting to comes after its neighbours.
4. The smallest score wins; ties are broken by the room's name. No dice, no order of arrival: two replicas that see
   the same decide the same.

One decision costs O(nodes + regions²), whatever the number of people: rooms come summed up by node.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from sys import intern

from controlplane.core.explain import Ranking, explain, explain_refusal
from controlplane.core.load import ROOM_HEADROOM, load_ms
from controlplane.core.model import (
    Assignment,
    Candidate,
    Decision,
    Join,
    Node,
    NodeId,
    RegionId,
    RttEstimate,
)
from controlplane.core.openings import NONE, Opening, emptiest
from controlplane.core.peers import Peers
from controlplane.core.rtt import Estimates, unknown_rtt
from controlplane.core.rules import (
    LIVE_RULES,
    RESIDENCY,
    Case,
    node_refusal,
    region_refusal,
    rule_of,
)
from controlplane.core.sums import Group, Sums
from controlplane.core.world import World

MAX_FALLBACKS = 2


class RefusalKind(StrEnum):
    """What stands in the way."""

    RESIDENCY = "residency"
    """A node would take the participant if the residency rule allowed it, or no region carries the tags at all."""
    CAPACITY = "capacity"
    """There are nodes, none of them takes this participant now."""
    NO_NODES = "no_nodes"
    """No node is there."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody can take the participant."""

    kind: RefusalKind
    because: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    """Every region that has nodes, each with its refusal."""
    allowed_regions: tuple[RegionId, ...]
    """The declared regions that the join's own requirements leave."""


def allocate(
    join: Join, others: Sums, world: World, estimates: Estimates, *, now: float
) -> Decision | Refused:
    """Choose a node for `join`. `estimates` are the newcomer's; `others` is the room without it."""
    view = _View(join, others, world, estimates, now)
    candidates = view.ranked()
    chosen = candidates[0] if candidates else None
    if chosen is None or chosen.node is None:
        return _refused(view, candidates)
    ranking = Ranking(
        chosen,
        candidates,
        others,
        view.peers.people,
        len(view.openings.nodes[chosen.region]),
        world.topology,
        estimates,
    )
    return Decision(
        node=chosen.node,
        region=chosen.region,
        because=explain(ranking),
        candidates=tuple(candidates),
        fallbacks=_fallbacks(candidates, view),
        decided_at=now,
        location=estimates.location,
        location_source=estimates.location_source,
        others=sum(view.peers.people.values()),
    )


def allocate_again(
    one: Assignment,
    others: Sums,
    world: World,
    *,
    avoid: frozenset[NodeId] = NONE,
    now: float,
) -> Decision | Refused:
    """Choose another place for somebody who has one, by what is known of them; `others` is the room without them.

    Nodes that the client could not reach are taken only when no other will do: a try is better than none.
    """
    estimates = Estimates(one.rtts, one.decision.location, one.decision.location_source)

    def without_these(nodes: frozenset[NodeId]) -> Decision | Refused:
        join = Join(
            room=one.room,
            participant=one.participant,
            session=one.session,
            role=one.role,
            require=one.require,
            exclude_nodes=nodes,
        )
        return allocate(join, others, world, estimates, now=now)

    decision = without_these(avoid | one.unreachable)
    if isinstance(decision, Refused) and not one.unreachable <= avoid:
        return without_these(avoid)
    return decision


class _View:
    """The world and the room as one newcomer sees them."""

    def __init__(
        self, join: Join, others: Sums, world: World, estimates: Estimates, now: float
    ) -> None:
        self.join, self.world, self.now = join, world, now
        self.openings = world.openings(now=now, exclude=join.exclude_nodes)
        self._others, self._estimates = others, estimates
        self._lot = zlib.crc32(join.room.encode())
        self.peers = Peers(join.role, others)

    def ranked(self) -> list[Candidate]:
        """Return every region that has nodes, the best first, those that are refused last."""
        return sorted(map(self._candidate, self.openings.nodes), key=self._rank)

    def _rank(self, one: Candidate) -> tuple[bool, float, int, RegionId]:
        if one.score is None:
            return True, one.rtt.rtt_ms, 0, one.region
        # Ties are broken by room, or every room whose first participant is unknown began in one region.
        return False, one.score, zlib.crc32(f"/{one.region}".encode(), self._lot), one.region

    def _candidate(self, id_: RegionId) -> Candidate:
        """Return the region with the score of its best node, or with its refusal."""
        rtt = self._estimates.rtts.get(id_) or unknown_rtt()
        why_not = region_refusal(self.join, id_, self.world.topology.regions.get(id_))
        if why_not is not None:
            return Candidate(id_, None, rtt, None, {}, why_not)
        open_, nodes = self.openings.by_region[id_], self.openings.nodes[id_]
        refused = self._refusals(nodes.values()) if len(open_) < len(nodes) else {}
        if open_:
            return self._scored(id_, open_, rtt, refused)
        why_not = f"no node: none of its {len(nodes)} nodes takes this participant"
        if len(refused) == 1:
            (why_not,) = refused.values()
        return Candidate(id_, None, rtt, None, {}, why_not, refused)

    def _scored(
        self,
        region: RegionId,
        open_: Sequence[Opening],
        rtt: RttEstimate,
        refused: Mapping[NodeId, str],
    ) -> Candidate:
        """Compare the region's emptiest node with those of the room's own that are there."""
        access, rtts = rtt.rtt_ms, self.world.region_rtt
        edge = self.world.topology.policy.edge_weight * self.peers.mean_access(access)
        delay = apart = self.peers.delay_ms(region, access, rtts)
        _, load, node = emptiest(open_, self._lot)
        id_, crowd = node.id, load_ms(load)
        own = self._own(open_) if region in self.peers.people else None
        if own is not None:
            together = self.peers.delay_beside_ms(own, apart, rtts)
            if together < delay + crowd:
                delay, crowd, id_ = together, 0.0, own.node
        terms = {"delay": delay, "edge": edge, "load": crowd}
        return Candidate(region, id_, rtt, delay + edge + crowd, terms, None, refused)

    def _own(self, open_: Sequence[Opening]) -> Group | None:
        """Return the room's greatest group on a node of these that has headroom for more of it; None for none."""
        best: Group | None = None
        most = 0
        for ramps, load, node in open_:
            group = self._others.get(node.id)
            if group is not None and load < ROOM_HEADROOM and not ramps:
                count = group.publishers + group.viewers
                if best is None or count > most or (count == most and node.id < best.node):
                    best, most = group, count
        return best

    def beside(self, one: Candidate) -> list[NodeId]:
        """Return the other nodes of a region, the emptiest first."""
        open_ = self.openings.by_region[one.region]
        ordered = sorted(
            (ramps, load, zlib.crc32(node.id.encode(), self._lot), node.id)
            for ramps, load, node in open_
        )
        return [id_ for *_, id_ in ordered if id_ != one.node]

    def _refusals(self, nodes: Iterable[Node]) -> dict[NodeId, str]:
        placed = self.world.placed
        cases = (Case(node, placed.get(node.id, 0), self.join, self.now) for node in nodes)
        found = {case.node.id: node_refusal(case) for case in cases}
        # Decisions are kept for as long as calls last, and most of these sentences are the same ones.
        return {id_: intern(why) for id_, why in sorted(found.items()) if why is not None}


def _fallbacks(candidates: Sequence[Candidate], view: _View) -> tuple[NodeId, ...]:
    """Return the best of other regions, then of the same: what broke a node may have broken its region.

    Then the others of other regions, in the order of the regions.
    """
    found = [one.node for one in candidates[1 : 1 + MAX_FALLBACKS] if one.node is not None]
    for one in candidates:
        if len(found) >= MAX_FALLBACKS or one.node is None:
            break
        found += view.beside(one)
    return tuple(found[:MAX_FALLBACKS])


def _refused(view: _View, candidates: Sequence[Candidate]) -> Refused:
    join, regions = view.join, view.world.topology.regions
    allowed = tuple(id_ for id_ in sorted(regions) if not region_refusal(join, id_, regions[id_]))
    kind = _kind(view, candidates, allowed)
    return Refused(kind, explain_refusal(join, candidates, allowed), tuple(candidates), allowed)


def _kind(view: _View, candidates: Sequence[Candidate], allowed: Sequence[RegionId]) -> RefusalKind:
    join, regions = view.join, view.world.topology.regions
    if join.require.residency and (
        not allowed
        or any(
            open_ and region_refusal(join, id_, regions.get(id_), but=RESIDENCY) is None
            for id_, open_ in view.openings.by_region.items()
        )
    ):
        return RefusalKind.RESIDENCY
    willing = any(
        (one.node is None and not one.refused)
        or any(rule_of(why) not in LIVE_RULES for why in one.refused.values())
        for one in candidates
    )
    return RefusalKind.CAPACITY if willing else RefusalKind.NO_NODES
