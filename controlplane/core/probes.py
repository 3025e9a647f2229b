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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.core.geo import fibre_rtt_ms, great_circle_km
from controlplane.core.mesh import to_each
from controlplane.core.model import Node, RegionId, Role, RttEstimate
from controlplane.core.openings import Opening, emptiest
from controlplane.core.peers import Peers
from controlplane.core.place import Place
from controlplane.core.rtt import NOTHING, Rtts, by_place, with_known
from controlplane.core.sums import NOBODY, Group, Sums
from controlplane.core.world import World

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
    more_above_ms: float | None = None
    """What `plan_more` names is measured too when even the smallest round trip of `first` is above this; None for
    never."""


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
    open_ = _open(world, now)
    count = world.topology.policy.probe_regions
    sure = [region for region, rtt in learned.items() if region in open_ and _is_sure(rtt)]
    if place.location is None and not sure:
        why = "place unknown: regions far from one another"
        return ProbePlan(_planned(_spread(world, open_, (), max(count, WIDENED), why), open_))
    wanted = _wanted(place, world, learned, others, open_)
    looked_at = list(wanted)[: count + EXTRA]
    first = {one: wanted[one] for one in looked_at if one not in sure}
    here = place.location
    if sure or here is None or not looked_at:
        return ProbePlan(_planned(first, open_))
    nearest = great_circle_km(here, world.topology.regions[looked_at[0]].location)
    return ProbePlan(_planned(first, open_), SLOW_MS + SLOW_FIBRE * fibre_rtt_ms(nearest))


def plan_more(plan: ProbePlan, world: World, *, now: float) -> tuple[PlannedProbe, ...]:
    """Return what a client should measure too when everything in `plan` is slow: regions far from one another.

    Apart from the plan, because few clients come to it.
    """
    if plan.more_above_ms is None:
        return ()
    open_ = _open(world, now)
    taken = tuple(probe.region for probe in plan.first)
    why = "no near region answers as quickly as it should: a region far from the others"
    return _planned(_spread(world, open_, taken, SENTINELS, why), open_)


def _open(world: World, now: float) -> dict[RegionId, Sequence[Opening]]:
    return {
        region: nodes
        for region, nodes in world.openings(now=now).by_region.items()
        if nodes and region in world.topology.regions
    }


def _planned(
    regions: Mapping[RegionId, str], open_: Mapping[RegionId, Sequence[Opening]]
) -> tuple[PlannedProbe, ...]:
    return tuple(
        PlannedProbe(region, emptiest(open_[region], 0)[2], why) for region, why in regions.items()
    )


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
    placed = by_place(place, topology, world.region_rtt)
    wanted: dict[RegionId, str] = {}
    if place.location is not None:
        nearest = sorted((placed[one].rtt_ms, one) for one in open_)
        for _, region in nearest[: 1 if others else topology.policy.probe_regions]:
            km = great_circle_km(place.location, topology.regions[region].location)
            wanted[region] = f"{km:.0f} km away ({place.source})"
        if not others:
            return wanted
    known = with_known(learned, placed, world.region_rtt)
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
    left = sorted(region for region in open_ if region not in taken)
    nearest = [math.inf] * len(left)
    for one in taken:
        nearest = list(map(min, nearest, to_each(world.region_rtt, one, left)))
    picked: dict[RegionId, str] = {}
    while left and len(picked) < count:
        # The first of equals, and they are in order of id.
        farthest = nearest.index(max(nearest))
        del nearest[farthest]
        region = left.pop(farthest)
        picked[region] = why
        nearest = list(map(min, nearest, to_each(world.region_rtt, region, left)))
    return picked
