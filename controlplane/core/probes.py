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

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controlplane.core.geo import fibre_rtt_ms, great_circle_km
from controlplane.core.mesh import between
from controlplane.core.model import Node, RegionId, Role, RttEstimate, World
from controlplane.core.openings import emptiest, openings
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
    place: Place,
    world: World,
    learned: Rtts = NOTHING,
    others: Sums = NOBODY,
    *,
    now: float,
) -> ProbePlan:
    """Return what a client at `place` should measure, the most telling first.

    Only regions with a serving node are named. `learned` is what is known of the client's network, `others` the room
    that it is about to join.
    """
    open_ = {
        region: nodes
        for region, nodes in openings(world, now=now).by_region.items()
        if nodes and region in world.topology.regions
    }
    count = world.topology.policy.probe_regions
    sure = [region for region, rtt in learned.items() if region in open_ and _is_sure(rtt)]

    def planned(regions: Mapping[RegionId, str]) -> tuple[PlannedProbe, ...]:
        return tuple(
            PlannedProbe(region, emptiest(open_[region], 0)[2], why)
            for region, why in regions.items()
        )

    if place.location is None and not sure:
        why = "place unknown: regions far from one another"
        return ProbePlan(planned(_spread(world, open_, (), max(count, WIDENED), why)))
    wanted = _wanted(place, world, learned, others, open_)
    looked_at = list(wanted)[: count + LOOKED_AT]
    first = {one: wanted[one] for one in [one for one in looked_at if one not in sure][:count]}
    here = place.location
    if sure or here is None or not looked_at:
        return ProbePlan(planned(first))
    nearest = great_circle_km(here, world.topology.regions[looked_at[0]].location)
    why = "no near region answers as quickly as it should: a region far from the others"
    more = _spread(world, open_, tuple(first), SENTINELS, why)
    above_ms = SLOW_MS + SLOW_FIBRE * fibre_rtt_ms(nearest)
    return ProbePlan(planned(first), planned(more), above_ms)


def _is_sure(rtt: RttEstimate) -> bool:
    return rtt.spread_ms <= max(SURE_MS, SURE_SHARE * rtt.rtt_ms)


def _wanted(
    place: Place,
    world: World,
    learned: Rtts,
    others: Sums,
    open_: Collection[RegionId],
) -> dict[RegionId, str]:
    """Return regions with the reason to measure them, the most telling first."""
    topology, rtts = world.topology, world.region_rtt
    known = estimate({}, place, topology, rtts, learned).rtts
    wanted: dict[RegionId, str] = {}
    if place.location is not None:
        here = place.location
        distance = {one: great_circle_km(here, topology.regions[one].location) for one in open_}
        for region in sorted(distance, key=lambda one: (distance[one], one))[:NEAREST]:
            wanted[region] = f"{distance[region]:.0f} km away ({place.source})"
    peers = Peers(Role.PUBLISHER, others)
    greatest: dict[RegionId, Group] = {}
    for node in sorted(others):
        group = others[node]
        if group.region not in greatest or group.count > greatest[group.region].count:
            greatest[group.region] = group
    cost: dict[RegionId, float] = {}
    for region in sorted(open_):
        access = known[region].rtt_ms
        delay = peers.delay_ms(region, access, rtts)
        if region in greatest:
            delay = peers.delay_beside_ms(greatest[region], delay, rtts)
        cost[region] = delay + topology.policy.edge_weight * peers.mean_access(access)
    why = "likely the best for the room" if others else "likely near"
    for region in sorted(cost, key=cost.__getitem__):
        wanted.setdefault(region, why)
    return wanted


def _spread(
    world: World, open_: Collection[RegionId], taken: Collection[RegionId], count: int, why: str
) -> dict[RegionId, str]:
    """Return up to `count` more regions, each the farthest, in round-trip time, from all taken before it."""
    rtts = world.region_rtt
    nearest = {
        region: min([between(rtts, region, one) for one in taken], default=math.inf)
        for region in sorted(open_)
        if region not in taken
    }
    picked: dict[RegionId, str] = {}
    while nearest and len(picked) < count:
        # The first of equals, and they are in order of id.
        region = max(nearest, key=nearest.__getitem__)
        del nearest[region]
        picked[region] = why
        for other, distance in nearest.items():
            to_it = between(rtts, other, region)
            if to_it < distance:
                nearest[other] = to_it
    return picked
