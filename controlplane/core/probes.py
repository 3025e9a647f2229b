"""Which regions a client should measure before it joins.

1. The two nearest, which recover most of what an address database gets wrong.
2. Then those that placement would choose from: the regions with the lowest expected cost for the room as it is, by what
   is known without a probe. For the first in a room these are near ones too; for somebody who joins nine others on
   another continent it is their edge that has to be measured.
3. Not those that calls from the same network taught well: they are known.
4. When even the best answer takes longer than it should, the place is probably wrong: four regions more, far from one
   another. The client does this by itself, without a second question.

When nothing is known of the place, regions far from one another are asked at once, and the mesh tells the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.core.geo import fibre_rtt_ms, great_circle_km
from controlplane.core.load import corrected_load
from controlplane.core.mesh import between
from controlplane.core.model import Node, NodeState, RegionId, Role, RttEstimate, World
from controlplane.core.peers import Peers
from controlplane.core.place import Place
from controlplane.core.rtt import NOTHING, Rtts, estimate
from controlplane.core.sums import NOBODY, Group, Sums

WIDENED = 7
"""Probes when the place is no help: as many as a browser finishes within half a second."""

NEAREST = 2
"""Measured whatever the room: the place may be a hundred kilometres off, and routes are not as the crow flies."""

LOOKED_AT = 2
"""Candidates looked at beyond the number of probes: where some of them are known, the next ones are worth a probe."""

SURE_MS = 4.0
SURE_SHARE = 0.1
"""Spread below which a learned round trip needs no probe: what a probe would say is hardly better."""

SENTINELS = 4
SLOW_MS = 25.0
SLOW_FIBRE = 2.0
"""Four regions more when the best answer takes longer than 25 ms and twice what fibre to the nearest region needs: then
the place is probably wrong (4 to 6 % of them are)."""


@dataclass(frozen=True, slots=True)
class PlannedProbe:
    """One region to measure, and the node that answers for it."""

    region: RegionId
    node: Node
    why: str


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What to measure, in two steps that the client takes by itself."""

    first: tuple[PlannedProbe, ...]
    """Measured always; empty when no node answers probes."""
    more: tuple[PlannedProbe, ...] = ()
    """Measured too when even the smallest round trip of `first` is above `more_above_ms`."""
    more_above_ms: float = 0.0


def plan_probes(
    place: Place, world: World, learned: Rtts = NOTHING, others: Sums = NOBODY
) -> ProbePlan:
    """Return what a client at `place` should measure, the most telling first.

    Only regions with a serving node are named. `learned` is what is known of the client's network, `others` the room
    that it is about to join.
    """
    answering = _answering(world)
    count = world.topology.policy.probe_regions
    sure = [region for region, rtt in learned.items() if region in answering and _is_sure(rtt)]
    if place.location is None and not sure:
        why = "place unknown: regions far from one another"
        return ProbePlan(_spread(world, answering, [], max(count, WIDENED), why))
    wanted = _wanted(place, world, learned, others, answering)
    looked_at = list(wanted)[: count + LOOKED_AT]
    first = tuple(
        PlannedProbe(region, answering[region], wanted[region])
        for region in [one for one in looked_at if one not in sure][:count]
    )
    here = place.location
    if sure or here is None:
        return ProbePlan(first)
    nearest = great_circle_km(here, world.topology.regions[looked_at[0]].location)
    why = "no near region answers as quickly as it should: a region far from the others"
    taken = [probe.region for probe in first]
    more = _spread(world, answering, taken, SENTINELS, why)
    return ProbePlan(first, more, SLOW_MS + SLOW_FIBRE * fibre_rtt_ms(nearest))


def _is_sure(rtt: RttEstimate) -> bool:
    return rtt.spread_ms <= max(SURE_MS, SURE_SHARE * rtt.rtt_ms)


def _wanted(
    place: Place,
    world: World,
    learned: Rtts,
    others: Sums,
    answering: Mapping[RegionId, Node],
) -> dict[RegionId, str]:
    """Return regions with the reason to measure them, the most telling first."""
    regions = world.topology.regions
    known = estimate({}, place, world.topology, world.region_rtt, learned).rtts
    peers = Peers(Role.PUBLISHER, others)
    weight = world.topology.policy.edge_weight

    def cost(region: RegionId) -> float:
        access = known[region].rtt_ms
        delay = peers.delay_ms(region, access, world.region_rtt)
        group = beside.get(region)
        if group is not None:
            delay = peers.delay_beside_ms(group, delay, world.region_rtt)
        return delay + weight * peers.mean_access(access)

    beside: dict[RegionId, Group] = {}
    for node in sorted(others):
        group = others[node]
        if group.region not in beside or group.count > beside[group.region].count:
            beside[group.region] = group
    wanted: dict[RegionId, str] = {}
    if place.location is not None:
        here = place.location
        distance = {one: great_circle_km(here, regions[one].location) for one in answering}
        for region in sorted(distance, key=lambda one: (distance[one], one))[:NEAREST]:
            wanted[region] = f"{distance[region]:.0f} km away ({place.source})"
    why = "likely the best for the room" if others else "likely near"
    for region in sorted(answering, key=lambda one: (cost(one), one)):
        wanted.setdefault(region, why)
    return wanted


def _answering(world: World) -> dict[RegionId, Node]:
    """Return the least loaded serving node of each declared region."""
    best: dict[RegionId, Node] = {}
    nodes = world.nodes.values()
    placed = world.placed
    for node in sorted(nodes, key=lambda one: (corrected_load(one, placed.get(one.id, 0)), one.id)):
        if node.state is NodeState.SERVING and node.region in world.topology.regions:
            best.setdefault(node.region, node)
    return best


def _spread(
    world: World,
    answering: Mapping[RegionId, Node],
    taken: Sequence[RegionId],
    count: int,
    why: str,
) -> tuple[PlannedProbe, ...]:
    """Return up to `count` more regions, each the farthest, in round-trip time, from all taken before it."""
    left = sorted(set(answering) - set(taken))
    nearest = {
        region: min((between(world.region_rtt, region, one) for one in taken), default=0.0)
        for region in left
    }
    picked: list[PlannedProbe] = []
    while nearest and len(picked) < count:
        # The first of equals, and they are in order of id.
        region = max(nearest, key=nearest.__getitem__)
        del nearest[region]
        picked.append(PlannedProbe(region, answering[region], why))
        for other, distance in nearest.items():
            to_it = between(world.region_rtt, other, region)
            if to_it < distance or len(picked) + len(taken) == 1:
                nearest[other] = to_it
    return tuple(picked)
