"""How far a client is from each region, in round-trip time, with the source and the spread of each figure.

Four kinds of evidence, each a figure with a standard deviation:

- the client's own probe of a region: the smallest sample, because queues only add;
- what calls from the same network taught (core/learned.py);
- through the mesh, from a region that is known: `rtt(client, s) + L(s, q)` is an upper bound that is usually too high
  by a part of its smaller leg;
- the operator's override, or the distance to the address database's place.

They are fused by their variances (inverse-variance weighting), so nothing has to be decided by rank: a probe of one far
region says little about a near one, and the figure itself knows that.

Probes are the client's word. What cannot be a round trip is set aside, and so is what would be faster than light in
fibre, between two regions or from where the client is; unless at least two probes agree with one another and
contradict the place, because then it is the address database that is wrong (4 to 6 % of its answers are more than
1000 km off).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from types import MappingProxyType

from controlplane.core.geo import (
    client_rtt_ms,
    client_spread_ms,
    fibre_rtt_ms,
    great_circle_km,
)
from controlplane.core.mesh import Pair, between, usable_rtt
from controlplane.core.model import (
    Assignment,
    Location,
    RegionId,
    RttEstimate,
    RttSource,
    Topology,
)
from controlplane.core.place import Place

UNKNOWN_RTT_MS = 150.0
UNKNOWN_SPREAD_MS = 80.0
"""A client's round trip to a region taken at random is 173 ms in the mean; the figure only has to be the same for
all regions and to lie within what calls have."""

OVERRIDE_RTT_MS = 5.0
OVERRIDE_SPREAD_MS = 5.0
"""An operator who names a region for a prefix means a network beside it."""

VIA_EXCESS = 0.4
VIA_SPREAD_MS = 8.0
VIA_SPREAD = 0.6
"""Through the mesh, from the region with the smallest smaller leg: over 3,500 measured cases the sum of both legs was
too high by 0.4 to 0.9 of its smaller leg, with a standard deviation of 10 ms for the smallest legs and about 0.6 of
the leg for the others. The excess taken off is at the lower end: what is chosen for its small estimate
disappoints."""

CERTAIN_MS = 2.0
"""What is known this well stands as it is: indirect evidence is never better than VIA_SPREAD_MS and would move it by a
seventeenth of the difference."""

PROBE_SPREAD_MS = 1.0
SINGLE_SAMPLE_SPREAD = 0.1
"""A minimum of several samples is good to a millisecond; one sample alone to a tenth, as browsers' clocks and queues
go."""

CONTRADICTION = 4.0
CONTRADICTION_MS = 20.0
"""A smallest sample under a quarter of the median, and 20 ms below it, was answered by something nearer than the
region: a cache, a middlebox, or the client's imagination. Queues do not make round trips shorter."""

PLACE_ERROR_KM = 1000.0
"""Added to a database's accuracy radius before a probe is called impossible: the radius holds the truth in only 51
to 85 % of the answers, while 1000 km more hold it in 94 to 96 %."""

MAX_NOTES = 8
"""Sentences kept about probes that were set aside; more would only repeat themselves."""

Rtts = Mapping[RegionId, RttEstimate]
Probes = Mapping[RegionId, Sequence[float]]

NOTHING: Rtts = MappingProxyType({})

MEASURED = frozenset({RttSource.SESSION, RttSource.PROBE, RttSource.LEARNED})
"""Sources of figures that somebody measured; the others follow from those."""


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
    probes: Probes,
    place: Place,
    topology: Topology,
    region_rtt: Mapping[Pair, float],
    learned: Rtts = NOTHING,
) -> Estimates:
    """Return an estimate for every region of the topology. Pure; never raises for what a client sent."""
    notes: list[str] = []
    measured = _usable(probes, topology, notes)
    _set_contradicting_aside(measured, place, topology, notes)
    place = _reconcile(measured, place, topology, notes)
    both = {
        region: fuse((measured[region], learned[region]))
        for region in measured
        if region in learned
    }
    known = {**learned, **measured, **both}
    rtts = with_known(known, by_place(place, topology, region_rtt), region_rtt)
    return Estimates(rtts, place.location, place.source, tuple(notes[:MAX_NOTES]), measured)


def by_place(place: Place, topology: Topology, region_rtt: Mapping[Pair, float]) -> Rtts:
    """Return what the place alone says of every region, in order of id."""
    regions = topology.regions
    if place.region is not None:
        beside = {
            region: 0.0 if region == place.region else between(region_rtt, place.region, region)
            for region in sorted(regions)
        }
        return {
            region: RttEstimate(OVERRIDE_RTT_MS + link, OVERRIDE_SPREAD_MS, RttSource.OVERRIDE)
            for region, link in beside.items()
        }
    if place.location is None:
        return dict.fromkeys(sorted(regions), unknown_rtt())
    return _by_distance(place.location, topology)


def with_known(known: Rtts, placed: Rtts, region_rtt: Mapping[Pair, float]) -> Rtts:
    """Return an estimate for every region of `placed`, which is what the place says, from that and what is `known`."""
    known = {region: known[region] for region in placed if region in known}
    if not known:
        return placed
    rtts = {}
    others = list(known.items())
    for region, one in placed.items():
        direct = known.get(region)
        if direct is not None and direct.spread_ms <= CERTAIN_MS:
            rtts[region] = direct
            continue
        evidence = [] if direct is None else [direct]
        through = _via_mesh(region, others, region_rtt)
        if through is not None:
            evidence.append(through)
        if one.source is not RttSource.UNKNOWN:
            evidence.append(one)
        rtts[region] = fuse(evidence)
    return rtts


def completed(one: Assignment, topology: Topology, region_rtt: Mapping[Pair, float]) -> Assignment:
    """Return an assignment that knows a round trip to every region, also to those that were declared after it was made.

    What it does not know follows from what was measured and from the place, as at a join; from nothing, nothing does.
    """
    kept = {region: rtt for region, rtt in one.rtts.items() if rtt.source is not RttSource.UNKNOWN}
    if topology.regions.keys() <= kept.keys():
        return one
    place = Place(one.decision.location, one.decision.location_source)
    known = {
        region: (rtt.rtt_ms,)
        for region, rtt in kept.items()
        if rtt.source in MEASURED and region in topology.regions
    }
    if not known and place.location is None:
        return one
    return replace(one, rtts={**estimate(known, place, topology, region_rtt).rtts, **kept})


def fuse(evidence: Sequence[RttEstimate]) -> RttEstimate:
    """Return the inverse-variance mean; what is more certain says where the figure comes from.

    Evidence that contradicts itself makes the spread wider (the Birge ratio), never narrower.
    """
    if not evidence:
        return unknown_rtt()
    if len(evidence) == 1:
        return evidence[0]
    best, least = evidence[0], math.inf
    total = weighted = 0.0
    # Unpacked: this runs for every region of every join.
    for one in evidence:
        rtt, spread, _, _ = one
        weight = 1 / (spread * spread)
        total += weight
        weighted += weight * rtt
        if spread < least:
            best, least = one, spread
    mean = weighted / total
    chi2 = 0.0
    for rtt, spread, _, _ in evidence:
        off = (rtt - mean) / spread
        chi2 += off * off
    spread = math.sqrt(max(1.0, chi2 / (len(evidence) - 1)) / total)
    return RttEstimate(mean, spread, best.source, best.age_s)


# --- the client's own probes --------------------------------------------------------------------


def _usable(probes: Probes, topology: Topology, notes: list[str]) -> dict[RegionId, RttEstimate]:
    """Return an estimate per probed region, from the samples that can be round trips."""
    measured: dict[RegionId, RttEstimate] = {}
    for region in sorted(probes):
        if region not in topology.regions:
            notes.append(f"The probe of {region} is set aside: there is no such region.")
            continue
        good = sorted(filter(usable_rtt, probes[region]))
        if len(good) < len(probes[region]):
            bad = len(probes[region]) - len(good)
            notes.append(
                f"{bad} of {len(probes[region])} samples of {region} are set aside: "
                "not a number, negative or above 10 s."
            )
        while len(good) > 2 and _is_too_good(good):
            notes.append(
                f"A sample of {region} ({good[0]:.1f} ms) is set aside: "
                f"the others are about {_median(good):.0f} ms."
            )
            del good[0]
        if good:
            measured[region] = _probe(good)
    return measured


def _is_too_good(samples: Sequence[float]) -> bool:
    middle = _median(samples)
    return samples[0] < middle / CONTRADICTION and middle - samples[0] > CONTRADICTION_MS


def _probe(samples: Sequence[float]) -> RttEstimate:
    """Return the estimate of usable samples in ascending order."""
    best = samples[0]
    spread = _median(samples) - best if len(samples) > 1 else SINGLE_SAMPLE_SPREAD * best
    return RttEstimate(best, max(PROBE_SPREAD_MS, spread), RttSource.PROBE)


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _set_contradicting_aside(
    measured: dict[RegionId, RttEstimate], place: Place, topology: Topology, notes: list[str]
) -> None:
    """Set aside probes that no single client can have made: two of them together faster than light between the regions.

    Those with the most contradictions go first, of equals those that the place rules out too. Of two that contradict
    only one another, neither is believed.
    """
    against: dict[RegionId, set[RegionId]] = {}
    for a, b in combinations(sorted(measured), 2):
        both = measured[a].rtt_ms + measured[b].rtt_ms
        if both < fibre_rtt_ms(_distance_km(topology, a, b)):
            against.setdefault(a, set()).add(b)
            against.setdefault(b, set()).add(a)
    impossible = _too_fast(measured, place, topology) if against else {}
    while against:
        most = max((len(others), region in impossible) for region, others in against.items())
        worst = [
            region
            for region in sorted(against)
            if (len(against[region]), region in impossible) == most
        ]
        for region in worst:
            notes.append(
                f"The probe of {region} ({measured[region].rtt_ms:.1f} ms) is set aside: together with another "
                "one it is faster than light between the two regions."
            )
            del measured[region], against[region]
        against = {
            region: left for region, others in against.items() if (left := others.difference(worst))
        }


def _distance_km(topology: Topology, a: RegionId, b: RegionId) -> float:
    return great_circle_km(topology.regions[a].location, topology.regions[b].location)


def _too_fast(
    measured: Mapping[RegionId, RttEstimate], place: Place, topology: Topology
) -> dict[RegionId, float]:
    """Return the probes that are faster than light from the place, with what light needs in milliseconds."""
    if place.location is None:
        return {}
    margin = PLACE_ERROR_KM + (place.location.radius_km or 0.0)
    floors = {
        region: fibre_rtt_ms(
            max(0.0, great_circle_km(place.location, topology.regions[region].location) - margin)
        )
        for region in measured
    }
    return {region: floor for region, floor in floors.items() if measured[region].rtt_ms < floor}


def _reconcile(
    measured: dict[RegionId, RttEstimate], place: Place, topology: Topology, notes: list[str]
) -> Place:
    """Set aside the probes that contradict the place, or the place that contradicts the probes."""
    impossible = _too_fast(measured, place, topology)
    if not impossible:
        return place
    if place.source == "geo" and len(measured) > 1:
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


# --- evidence about one region ------------------------------------------------------------------


def _via_mesh(
    region: RegionId,
    known: Sequence[tuple[RegionId, RttEstimate]],
    region_rtt: Mapping[Pair, float],
) -> RttEstimate | None:
    """Return the best founded estimate through another known region, if there is one.

    Only one: those through several regions share the client's own last mile and are not independent.
    """
    found: tuple[float, float] | None = None
    least = math.inf
    for other, (rtt, own_spread, _, age_s) in known:
        if other == region:
            continue
        link = region_rtt.get((other, region))
        if link is None:
            link = between(region_rtt, other, region)
        leg = min(link, rtt)
        spread = VIA_SPREAD_MS + VIA_SPREAD * leg + own_spread
        if spread < least:
            least = spread
            found = rtt + link - VIA_EXCESS * leg, age_s
    return None if found is None else RttEstimate(found[0], least, RttSource.VIA_MESH, found[1])


@lru_cache(maxsize=1024)
def _by_distance(here: Location, topology: Topology) -> Rtts:
    """Return the distance model's estimates. Kept: a client asks for a plan, then joins, then is joined again."""
    km = {
        region: great_circle_km(here, topology.regions[region].location)
        for region in sorted(topology.regions)
    }
    return {
        region: RttEstimate(
            client_rtt_ms(distance), client_spread_ms(distance, here.radius_km), RttSource.GEO
        )
        for region, distance in km.items()
    }
