"""Which regions a client should measure before it joins.

1. The first of a room: the three nearest, which recover most of what an address database gets wrong.
2. Who joins others: the nearest, and the regions that placement could choose, by what is known without a probe: those
   whose expected cost for the room lies within the doubt about it. For somebody who joins nine others on another
   continent it is their edge that has to be measured. This takes fewer probes than the three nearest and brings rooms
   a third nearer to what full knowledge would do (docs/decisions/0008).
3. Not those that calls from the same network taught well: they are known.
4. When even the best answer takes longer than it should, the place is probably wrong: four regions more, far from one
   another. The client does this by itself, without a second question.

When nothing is known of the place, regions far from one another are asked at once, and the mesh tells the rest.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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

SUSPENSE = 2.5
"""A region is worth a probe while its expected cost is less than this many standard deviations of the difference above
the best one's. Measured over 1,700 rooms, first joiners too: 1 takes 2.3 probes a join and leaves rooms 1.6 % over full
knowledge, 2 takes 2.7 and leaves 1.3 %, 3 takes 3.2 and leaves 1.15 %."""

EXTRA = 2
"""Probes that a join may take beyond `probe_regions` when so many regions could win; few can."""

SURE_MS = 5.0
SURE_SHARE = 0.1
"""Spread below which a learned round trip needs no probe: what a probe would say is hardly better."""

SENTINELS = 4
SLOW_MS = 25.0
SLOW_FIBRE = 2.0
"""Four regions more when the best answer takes longer than 25 ms and twice what fibre to the nearest region needs: then
the place is probably wrong (4 to 6 % of them are)."""


class PlannedProbe(NamedTuple):
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
    looked_at = list(wanted)[: count + EXTRA]
    first = {one: wanted[one] for one in looked_at if one not in sure}
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
    topology = world.topology
    wanted: dict[RegionId, str] = {}
    if place.location is not None:
        here = place.location
        distance = {one: great_circle_km(here, topology.regions[one].location) for one in open_}
        count = 1 if others else topology.policy.probe_regions
        for region in sorted(distance, key=lambda one: (distance[one], one))[:count]:
            wanted[region] = f"{distance[region]:.0f} km away ({place.source})"
        if not others:
            return wanted
    known = estimate({}, place, topology, world.region_rtt, learned).rtts
    cost = _cost(known, world, others, open_)
    ranked = sorted(cost, key=cost.__getitem__)
    weight = (1 + topology.policy.edge_weight) / 2
    why = "could be the best for the room" if others else "likely near"
    for region in ranked:
        gap = cost[region] - cost[ranked[0]]
        doubt = weight * math.hypot(known[region].spread_ms, known[ranked[0]].spread_ms)
        if gap <= SUSPENSE * doubt:
            wanted.setdefault(region, why)
    return wanted


def _cost(
    known: Rtts, world: World, others: Sums, open_: Collection[RegionId]
) -> dict[RegionId, float]:
    """Return what placement would expect of each region, load left out, in order of id."""
    peers = Peers(Role.PUBLISHER, others)
    greatest: dict[RegionId, Group] = {}
    for node in sorted(others):
        group = others[node]
        if group.region not in greatest or group.count > greatest[group.region].count:
            greatest[group.region] = group
    cost: dict[RegionId, float] = {}
    for region in sorted(open_):
        access = known[region].rtt_ms
        delay = peers.delay_ms(region, access, world.region_rtt)
        if region in greatest:
            delay = peers.delay_beside_ms(greatest[region], delay, world.region_rtt)
        cost[region] = delay + world.topology.policy.edge_weight * peers.mean_access(access)
    return cost


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
