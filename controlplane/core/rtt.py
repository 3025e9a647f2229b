"""How far a client is from each region, in round-trip time, with the source and the spread of each figure.

1. The client's own probe of a region: the smallest sample, because queues only add.
2. Through the mesh: `min over probed s of rtt(client, s) + L(s, q)`. The truth lies between |rtt - L| and
   rtt + L, so the spread is the smaller of the two.
3. The operator's override, then the distance model of the address database's place.
4. Nothing known: the same guess for every region, so that it favours none.

Between 2 and 3 the figure with the smaller spread counts: a probe of one far region says little about a near one.

Probes are the client's word. What cannot be a round trip is set aside, and so is what would be faster than light
in fibre from where the client is; unless at least two probes agree with one another and contradict the place,
because then it is the address database that is wrong (4 to 6 % of its answers are more than 1000 km off).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from controlplane.core.geo import (
    client_rtt_ms,
    client_spread_ms,
    fibre_rtt_ms,
    great_circle_km,
)
from controlplane.core.mesh import Pair, between, usable_rtt
from controlplane.core.model import Location, RegionId, RttEstimate, RttSource, Topology
from controlplane.core.place import Place

UNKNOWN_RTT_MS = 150.0
UNKNOWN_SPREAD_MS = 80.0
"""A client's round trip to a region taken at random is 173 ms in the mean; the figure only has to be the same for
all regions and to lie within what calls have."""

OVERRIDE_RTT_MS = 5.0
OVERRIDE_SPREAD_MS = 5.0
"""An operator who names a region for a prefix means a network beside it."""

PLACE_ERROR_KM = 1000.0
"""Added to a database's accuracy radius before a probe is called impossible: the radius holds the truth in only 51
to 85 % of the answers, while 1000 km more hold it in 94 to 96 %."""

MAX_NOTES = 8
"""Sentences kept about probes that were set aside; more would only repeat themselves."""

Rtts = Mapping[RegionId, RttEstimate]
Probes = Mapping[RegionId, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is known of one client's round trips."""

    rtts: Rtts
    """Every region of the topology."""
    location: Location | None = None
    location_source: str = "unknown"
    notes: tuple[str, ...] = ()
    """What was set aside, and why, in sentences for people."""
    measured: Rtts = field(default_factory=dict)
    """The probes that were believed, alone."""


def unknown_rtt() -> RttEstimate:
    """Return the guess for a client of whom nothing is known."""
    return RttEstimate(UNKNOWN_RTT_MS, UNKNOWN_SPREAD_MS, RttSource.UNKNOWN)


def estimate(
    probes: Probes, place: Place, topology: Topology, region_rtt: Mapping[Pair, float]
) -> Estimates:
    """Return an estimate for every region of the topology. Pure; never raises for what a client sent."""
    notes: list[str] = []
    measured = _usable(probes, topology, notes)
    place = _reconcile(measured, place, topology, notes)
    rtts = {
        region: measured.get(region) or _unmeasured(region, measured, place, topology, region_rtt)
        for region in sorted(topology.regions)
    }
    return Estimates(rtts, place.location, place.source, tuple(notes[:MAX_NOTES]), measured)


def _usable(probes: Probes, topology: Topology, notes: list[str]) -> dict[RegionId, RttEstimate]:
    """Return an estimate per probed region, from the samples that can be round trips."""
    measured: dict[RegionId, RttEstimate] = {}
    for region in sorted(probes):
        if region not in topology.regions:
            notes.append(f"The probe of {region} is set aside: there is no such region.")
            continue
        good = [sample for sample in probes[region] if usable_rtt(sample)]
        if len(good) < len(probes[region]):
            bad = len(probes[region]) - len(good)
            notes.append(
                f"{bad} of {len(probes[region])} samples of {region} are set aside: "
                "not a number, negative or above 10 s."
            )
        if good:
            best = min(good)
            spread = median(good) - best if len(good) > 1 else 0.1 * best
            measured[region] = RttEstimate(best, max(1.0, spread), RttSource.PROBE)
    return measured


def _reconcile(
    measured: dict[RegionId, RttEstimate], place: Place, topology: Topology, notes: list[str]
) -> Place:
    """Set aside the probes that contradict the place, or the place that contradicts the probes."""
    if place.location is None:
        return place
    here = place.location
    margin = PLACE_ERROR_KM + (here.radius_km or 0.0)
    impossible: dict[RegionId, float] = {}
    for region, rtt in measured.items():
        distance = great_circle_km(here, topology.regions[region].location)
        floor = fibre_rtt_ms(max(0.0, distance - margin))
        if rtt.rtt_ms < floor:
            impossible[region] = floor
    if not impossible:
        return place
    if place.source == "geo" and _agree(measured, topology):
        notes.append(
            "The address database's place is set aside: the probes agree with one another and rule it out."
        )
        return Place()
    for region, floor in impossible.items():
        notes.append(
            f"The probe of {region} ({measured[region].rtt_ms:.1f} ms) is set aside: light needs "
            f"{floor:.1f} ms from where this client is."
        )
        del measured[region]
    return place


def _agree(measured: Mapping[RegionId, RttEstimate], topology: Topology) -> bool:
    """Return whether one client can have made all these measurements: no pair is faster than light between them."""
    if len(measured) < 2:
        return False
    regions = sorted(measured)
    for index, a in enumerate(regions):
        for b in regions[index + 1 :]:
            distance = great_circle_km(topology.regions[a].location, topology.regions[b].location)
            if measured[a].rtt_ms + measured[b].rtt_ms < fibre_rtt_ms(distance):
                return False
    return True


def _unmeasured(
    region: RegionId,
    measured: Rtts,
    place: Place,
    topology: Topology,
    region_rtt: Mapping[Pair, float],
) -> RttEstimate:
    via = _via_mesh(region, measured, region_rtt)
    placed = _from_place(region, place, topology, region_rtt)
    if via is None or (placed is not None and placed.spread_ms < via.spread_ms):
        return placed or via or unknown_rtt()
    return via


def _via_mesh(
    region: RegionId, measured: Rtts, region_rtt: Mapping[Pair, float]
) -> RttEstimate | None:
    best: RttEstimate | None = None
    for probed in sorted(measured):
        direct, link = measured[probed].rtt_ms, between(region_rtt, probed, region)
        if best is None or direct + link < best.rtt_ms:
            spread = max(1.0, min(direct, link))
            best = RttEstimate(direct + link, spread, RttSource.VIA_MESH)
    return best


def _from_place(
    region: RegionId, place: Place, topology: Topology, region_rtt: Mapping[Pair, float]
) -> RttEstimate | None:
    if place.region is not None:
        link = 0.0 if region == place.region else between(region_rtt, place.region, region)
        return RttEstimate(OVERRIDE_RTT_MS + link, OVERRIDE_SPREAD_MS, RttSource.OVERRIDE)
    if place.location is None:
        return None
    distance = great_circle_km(place.location, topology.regions[region].location)
    return RttEstimate(
        client_rtt_ms(distance), client_spread_ms(place.location.radius_km), RttSource.GEO
    )
