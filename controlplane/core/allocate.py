"""Where a participant goes: a pure function of the join, the room, the world and the time.

1. Hard rules first (core/rules.py); each refusal is named.
2. Everybody who passes gets a score in milliseconds, lower is better:
   - "delay": the mean one-way delay between the newcomer and the others it exchanges media with;
   - "edge": `edge_weight` times the mean access round trip of such a pair, which is what repairing a loss costs;
   - "load": what a crowded node costs. It is zero on a node that already carries the room and has headroom: a room
     that stays together needs fewer links, and its node was paid for when it was opened.
3. The smallest score wins; ties are broken by the room's name. No dice, no order of arrival: two replicas that see
   the same decide the same.

One decision costs O(participants of the room + nodes x nodes of the room).
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from controlplane.core.delay import SFU_MS, Group, groups
from controlplane.core.explain import Ranking, explain, explain_refusal
from controlplane.core.load import ROOM_HEADROOM, corrected_load, load_ms
from controlplane.core.mesh import between
from controlplane.core.model import (
    Assignment,
    Candidate,
    Decision,
    Join,
    Node,
    NodeId,
    RegionId,
    Role,
    Room,
    RoomId,
    World,
)
from controlplane.core.rtt import Estimates, unknown_rtt
from controlplane.core.rules import LIVE_RULES, RESIDENCY, Case, refusal, rule_of

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
    """Every node, each with its refusal."""
    allowed_regions: tuple[RegionId, ...]
    """The declared regions that the join's own requirements leave."""


def allocate(
    join: Join, room: Room, world: World, estimates: Estimates, *, now: float
) -> Decision | Refused:
    """Choose a node for `join`. `estimates` are the newcomer's; the others' are in their assignments."""
    others = [
        one
        for one in room.assignments.values()
        if one.participant != join.participant and one.expires_at > now
    ]
    view = _View(join, world, estimates, others, now)
    candidates = sorted(
        (view.candidate(node) for node in world.nodes.values()),
        key=lambda candidate: _rank(candidate, join.room),
    )
    eligible = [one for one in candidates if one.score is not None]
    if not eligible:
        return _refused(join, world, candidates, now)
    chosen = eligible[0]
    ranking = Ranking(chosen, candidates, groups(others), world, estimates)
    return Decision(
        node=chosen.node,
        region=chosen.region,
        because=explain(ranking),
        candidates=tuple(candidates),
        fallbacks=_fallbacks(eligible),
        decided_at=now,
        location=estimates.location,
        location_source=estimates.location_source,
    )


class _View:
    """The room as one newcomer sees it, summed up once for all candidates."""

    def __init__(
        self,
        join: Join,
        world: World,
        estimates: Estimates,
        others: Sequence[Assignment],
        now: float,
    ) -> None:
        self._join, self._world, self._estimates, self._now = join, world, estimates, now
        self._carriers = {one.node for one in others}
        self._peers = groups(one for one in others if _exchange(join.role, one.role))
        self._count = sum(peer.count for peer in self._peers)
        self._access = math.fsum(peer.access_ms for peer in self._peers)

    def candidate(self, node: Node) -> Candidate:
        """Return the node with its score or its refusal."""
        rtt = self._estimates.rtts.get(node.region) or unknown_rtt()
        region = self._world.topology.regions.get(node.region)
        why_not = refusal(Case(node, region, self._join, self._now))
        if why_not is not None:
            return Candidate(node.id, node.region, rtt, None, {}, why_not)
        terms = self._terms(node, rtt.rtt_ms)
        return Candidate(node.id, node.region, rtt, math.fsum(terms.values()), terms)

    def _terms(self, node: Node, access: float) -> Mapping[str, float]:
        load = corrected_load(node)
        carries = node.id in self._carriers
        weight = self._world.topology.policy.edge_weight
        mean_access = (access + self._access / self._count) / 2 if self._count else access
        return {
            "delay": self._delay(node, access),
            "edge": weight * mean_access,
            "load": 0.0 if carries and load < ROOM_HEADROOM else load_ms(load),
        }

    def _delay(self, node: Node, access: float) -> float:
        if not self._count:
            # Nobody to exchange media with yet; a node that carries the room saves the hop that will come.
            split = bool(self._carriers) and node.id not in self._carriers
            return access / 2 + SFU_MS * (1 + split)
        return math.fsum(self._delay_to(node, access, peer) for peer in self._peers) / self._count

    def _delay_to(self, node: Node, access: float, peer: Group) -> float:
        if node.id == peer.node:
            return peer.count * (access / 2 + SFU_MS) + peer.access_ms / 2
        link = between(self._world.region_rtt, node.region, peer.region)
        return peer.count * ((access + link) / 2 + 2 * SFU_MS) + peer.access_ms / 2


def _exchange(one: Role, other: Role) -> bool:
    """Return whether media flows between two participants; two viewers have nothing for one another."""
    return Role.PUBLISHER in (one, other)


def _rank(candidate: Candidate, room: RoomId) -> tuple[bool, float, int, NodeId]:
    if candidate.score is None:
        return True, candidate.rtt.rtt_ms, 0, candidate.node
    return False, candidate.score, _lot(room, candidate.node), candidate.node


def _lot(room: RoomId, node: NodeId) -> int:
    """Return what breaks ties: by room, or every room whose first participant is unknown began on one node."""
    return zlib.crc32(f"{room}/{node}".encode())


def _fallbacks(eligible: Sequence[Candidate]) -> tuple[NodeId, ...]:
    """Return the best others, each region once before any twice: what broke a node may have broken its region."""
    regions = {eligible[0].region}
    elsewhere: list[NodeId] = []
    beside: list[NodeId] = []
    for one in eligible[1:]:
        (beside if one.region in regions else elsewhere).append(one.node)
        regions.add(one.region)
    return tuple([*elsewhere, *beside][:MAX_FALLBACKS])


def _refused(join: Join, world: World, candidates: Sequence[Candidate], now: float) -> Refused:
    regions = world.topology.regions
    required = join.require
    allowed = tuple(
        region
        for region in sorted(regions)
        if required.residency <= regions[region].residency
        and (not required.regions or region in required.regions)
    )
    kind = _kind(join, world, candidates, now, allowed)
    return Refused(kind, explain_refusal(join, candidates, allowed), tuple(candidates), allowed)


def _kind(
    join: Join,
    world: World,
    candidates: Sequence[Candidate],
    now: float,
    allowed: Sequence[RegionId],
) -> RefusalKind:
    if join.require.residency:
        cases = (
            Case(node, world.topology.regions.get(node.region), join, now)
            for node in world.nodes.values()
        )
        if not allowed or any(refusal(case, but=RESIDENCY) is None for case in cases):
            return RefusalKind.RESIDENCY
    there = [one for one in candidates if rule_of(one.refusal or "") not in LIVE_RULES]
    return RefusalKind.CAPACITY if there else RefusalKind.NO_NODES
