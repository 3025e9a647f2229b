"""Which regions a client should measure before it joins.

Three probes of the nearest regions recover most of what an address database gets wrong (12.8 ms over the optimum
fall to 3.3 ms). When the place is unknown or vague, nearness means nothing: then up to seven regions that lie far from
one another are asked, and the mesh tells the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.core.geo import great_circle_km
from controlplane.core.load import corrected_load
from controlplane.core.model import Node, NodeState, RegionId, World
from controlplane.core.place import Place

WIDENED = 7
"""Probes when the place is no help: as many as a browser finishes within half a second."""

VAGUE_KM = 500.0
"""From this accuracy radius on, a quarter of the answers point at the wrong region."""


@dataclass(frozen=True, slots=True)
class PlannedProbe:
    """One region to measure, and the node that answers for it."""

    region: RegionId
    node: Node
    why: str


def plan_probes(place: Place, world: World) -> tuple[PlannedProbe, ...]:
    """Return the probes for a client at `place`, the nearest or the most telling first.

    Only regions with a serving node are named; without any the plan is empty.
    """
    answering = _answering(world)
    count = world.topology.policy.probe_regions
    here = place.location
    if here is None:
        why = "place unknown: regions far from one another"
        return _spread(world, answering, [], max(count, WIDENED), why)
    distance = {
        region: great_circle_km(here, world.topology.regions[region].location)
        for region in answering
    }
    near = sorted(distance, key=lambda region: (distance[region], region))[:count]
    probes = tuple(
        PlannedProbe(region, answering[region], f"{distance[region]:.0f} km away ({place.source})")
        for region in near
    )
    if (here.radius_km or 0.0) < VAGUE_KM:
        return probes
    why = f"place known within {here.radius_km:.0f} km only: a region far from the others"
    return probes + _spread(world, answering, near, max(count, WIDENED) - len(near), why)


def _answering(world: World) -> dict[RegionId, Node]:
    """Return the least loaded serving node of each declared region."""
    best: dict[RegionId, Node] = {}
    for node in sorted(world.nodes.values(), key=lambda node: (corrected_load(node), node.id)):
        if node.state is NodeState.SERVING and node.region in world.topology.regions:
            best.setdefault(node.region, node)
    return best


def _spread(
    world: World, answering: dict[RegionId, Node], taken: Sequence[RegionId], count: int, why: str
) -> tuple[PlannedProbe, ...]:
    """Return up to `count` more regions, each the farthest from all taken before it."""
    regions = world.topology.regions
    chosen = list(taken)
    left = sorted(set(answering) - set(taken))
    picked: list[PlannedProbe] = []
    while left and len(picked) < count:
        nearest = {
            region: min(
                (great_circle_km(regions[region].location, regions[t].location) for t in chosen),
                default=0.0,
            )
            for region in left
        }
        # The first of equals, and they are in order of id.
        region = max(left, key=nearest.__getitem__)
        left.remove(region)
        chosen.append(region)
        picked.append(PlannedProbe(region, answering[region], why))
    return tuple(picked)
