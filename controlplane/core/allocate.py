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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from controlplane.core.explain import Ranking, explain, explain_refusal
from controlplane.core.load import ROOM_HEADROOM, corrected_load, is_ramping, load_ms
from controlplane.core.model import (
    Candidate,
    Decision,
    Join,
    Node,
    NodeId,
    RegionId,
    RoomId,
    RttEstimate,
    World,
)
from controlplane.core.peers import Peers
from controlplane.core.rtt import Estimates, unknown_rtt
from controlplane.core.rules import (
    LIVE_RULES,
    RESIDENCY,
    Case,
    node_refusal,
    region_refusal,
    rule_of,
    takes,
)
from controlplane.core.sums import Sums

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
    candidates = sorted(
        (view.candidate(region, nodes) for region, nodes in view.regions.items()),
        key=lambda candidate: _rank(candidate, join.room),
    )
    chosen = candidates[0] if candidates else None
    if chosen is None or chosen.node is None:
        return _refused(view, candidates)
    return Decision(
        node=chosen.node,
        region=chosen.region,
        because=explain(Ranking(chosen, candidates, others, world, estimates)),
        candidates=tuple(candidates),
        fallbacks=_fallbacks(candidates, view.beside(chosen)),
        decided_at=now,
        location=estimates.location,
        location_source=estimates.location_source,
        others=sum(group.count for group in others.values()),
    )


class _View:
    """The world and the room as one newcomer sees them."""

    def __init__(
        self, join: Join, others: Sums, world: World, estimates: Estimates, now: float
    ) -> None:
        self.join, self.world, self.now = join, world, now
        self._others, self._estimates = others, estimates
        self._room_lot = zlib.crc32(join.room.encode())
        self.regions: dict[RegionId, list[tuple[Node, float]]] = {}
        """Nodes with their corrected load, by region."""
        placed = world.placed
        for id_, node in world.nodes.items():
            load = corrected_load(node, placed.get(id_, 0))
            self.regions.setdefault(node.region, []).append((node, load))
        self._peers = Peers(join.role, others)

    def candidate(self, id_: RegionId, nodes: Sequence[tuple[Node, float]]) -> Candidate:
        """Return the region with the score of its best node, or with its refusal."""
        rtt = self._estimates.rtts.get(id_) or unknown_rtt()
        why_not = region_refusal(self.join, id_, self.world.topology.regions.get(id_))
        if why_not is not None:
            return Candidate(id_, None, rtt, None, {}, why_not)
        able = [(node, load) for node, load in nodes if takes(node, load, self.join, self.now)]
        refused = self._refusals(nodes) if len(able) < len(nodes) else {}
        if not able:
            return Candidate(
                id_, None, rtt, None, {}, refused[min(refused)] if len(refused) == 1
                else f"no node: none of its {len(nodes)} nodes takes this participant", refused,
            )  # fmt: skip
        return self._scored(id_, able, rtt, refused)

    def _scored(
        self,
        region: RegionId,
        able: Sequence[tuple[Node, float]],
        rtt: RttEstimate,
        refused: Mapping[NodeId, str],
    ) -> Candidate:
        """Compare the room's own nodes in the region with its emptiest one."""
        access, topology = rtt.rtt_ms, self.world.topology
        edge = topology.policy.edge_weight * self._peers.mean_access(access)
        apart = self._peers.delay_ms(region, access, self.world.region_rtt)
        emptiest = min(able, key=self._emptiness)
        best: tuple[float, float, Node] = (load_ms(emptiest[1]), apart, emptiest[0])
        for node, load in able:
            group = self._others.get(node.id)
            if group is None:
                continue
            stays = load < ROOM_HEADROOM and not self._ramps(node)
            together = self._peers.delay_beside_ms(group, apart, self.world.region_rtt)
            own = (0.0 if stays else load_ms(load), together, node)
            if (own[0] + own[1], load, node.id) < (best[0] + best[1], load, best[2].id):
                best = own
        crowd, delay, node = best
        terms = {"delay": delay, "edge": edge, "load": crowd}
        return Candidate(region, node.id, rtt, delay + edge + crowd, terms, None, refused)

    def beside(self, chosen: Candidate) -> list[NodeId]:
        """Return the other nodes of the chosen region, the emptiest first."""
        nodes = self.regions[chosen.region]
        able = [one for one in nodes if takes(one[0], one[1], self.join, self.now)]
        return [node.id for node, _ in sorted(able, key=self._emptiness) if node.id != chosen.node]

    def _emptiness(self, one: tuple[Node, float]) -> tuple[bool, float, int, NodeId]:
        node, load = one
        return self._ramps(node), load, zlib.crc32(node.id.encode(), self._room_lot), node.id

    def _ramps(self, node: Node) -> bool:
        return is_ramping(node, self.world.placed.get(node.id, 0))

    def _refusals(self, nodes: Sequence[tuple[Node, float]]) -> dict[NodeId, str]:
        placed = self.world.placed
        cases = (Case(node, placed.get(node.id, 0), self.join, self.now) for node, _ in nodes)
        found = {case.node.id: node_refusal(case) for case in cases}
        return {id_: why for id_, why in sorted(found.items()) if why is not None}


def _rank(candidate: Candidate, room: RoomId) -> tuple[bool, float, int, RegionId]:
    if candidate.score is None:
        return True, candidate.rtt.rtt_ms, 0, candidate.region
    return False, candidate.score, _lot(room, candidate.region), candidate.region


def _lot(room: RoomId, region: RegionId) -> int:
    """Return what breaks ties: by room, or every room whose first participant is unknown began in one region."""
    return zlib.crc32(f"{room}/{region}".encode())


def _fallbacks(candidates: Sequence[Candidate], beside: Sequence[NodeId]) -> tuple[NodeId, ...]:
    """Return the best of other regions, then of the same: what broke a node may have broken its region."""
    elsewhere = [one.node for one in candidates[1:] if one.node is not None]
    return tuple([*elsewhere, *beside][:MAX_FALLBACKS])


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
            takes(node, load, join, view.now)
            for id_, nodes in view.regions.items()
            if region_refusal(join, id_, regions.get(id_), but=RESIDENCY) is None
            for node, load in nodes
        )
    ):
        return RefusalKind.RESIDENCY
    willing = any(
        (one.node is None and not one.refused)
        or any(rule_of(why) not in LIVE_RULES for why in one.refused.values())
        for one in candidates
    )
    return RefusalKind.CAPACITY if willing else RefusalKind.NO_NODES
