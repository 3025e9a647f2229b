"""How far a client is from each region: the sources, how they are fused, and what always holds."""

import math
from dataclasses import replace
from ipaddress import ip_network
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.geo import fibre_rtt_ms, great_circle_km
from controlplane.core.mesh import region_matrix
from controlplane.core.model import Location, Override, RegionId, RttEstimate, RttSource, Topology
from controlplane.core.place import NOWHERE, Place, find_place, override_for
from controlplane.core.rtt import (
    NOTHING,
    UNKNOWN_RTT_MS,
    Estimates,
    Rtts,
    estimate,
    fuse,
    unknown_rtt,
)
from tests.core.build import CITIES, region, topology, turned

TOPOLOGY = topology()
MATRIX = region_matrix(TOPOLOGY, {})
MAINZ = Location(50.0, 8.27, 20)
FRANKFURT, PARIS, VIRGINIA, SINGAPORE = map(
    region, ["eu-frankfurt", "eu-paris", "us-virginia", "ap-singapore"]
)


def of(
    probes: dict[str, tuple[float, ...]], place: Place = NOWHERE, learned: Rtts = NOTHING
) -> Estimates:
    return estimate(
        {region(id_): samples for id_, samples in probes.items()}, place, TOPOLOGY, MATRIX, learned
    )


def test_a_probe_is_its_smallest_sample() -> None:
    found = of({"eu-frankfurt": (9.0, 5.0, 30.0)}).measured[FRANKFURT]
    assert (found.rtt_ms, found.source) == (5.0, RttSource.PROBE)
    assert of({"eu-frankfurt": (9.0, 5.0, 30.0)}).rtts[FRANKFURT] == found


def test_samples_that_lie_together_are_surer_than_those_apart_and_than_one() -> None:
    def spread(*samples: float) -> float:
        return of({"us-virginia": samples}).rtts[VIRGINIA].spread_ms

    assert spread(90.0, 90.5, 91.0) < spread(90.0, 110.0, 150.0)
    assert spread(90.0, 90.5, 91.0) < spread(90.0)


def test_unprobed_regions_go_through_the_mesh() -> None:
    found = of({"eu-frankfurt": (5.0,), "us-virginia": (88.0,)}).rtts
    assert found[PARIS].source is found[SINGAPORE].source is RttSource.VIA_MESH
    # The sum of both legs is as far as it can be; the way is rarely that long.
    assert 10.0 < found[PARIS].rtt_ms <= 15.0
    assert 160.0 < found[SINGAPORE].rtt_ms <= 165.0
    assert found[PARIS].spread_ms > found[FRANKFURT].spread_ms


def test_the_way_through_the_mesh_is_the_one_through_the_nearest_known_region() -> None:
    near = of({"eu-frankfurt": (5.0,)}).rtts[PARIS]
    both = of({"eu-frankfurt": (5.0,), "ap-singapore": (163.0,)}).rtts[PARIS]
    far = of({"ap-singapore": (163.0,)}).rtts[PARIS]
    assert near == both
    assert far.spread_ms > near.spread_ms


def test_a_far_probe_says_less_about_a_near_region_than_the_place_does() -> None:
    found = of({"ap-singapore": (165.0,)}, Place(MAINZ, "geo")).rtts
    assert found[FRANKFURT].source is RttSource.GEO
    assert found[SINGAPORE].source is RttSource.PROBE
    assert found[FRANKFURT].rtt_ms < 40


def test_what_a_network_taught_counts_like_a_measurement_with_its_own_spread() -> None:
    taught = {FRANKFURT: RttEstimate(12.0, 6.0, RttSource.LEARNED, 3600.0)}
    found = of({}, Place(Location(48.0, 2.0, 200), "geo"), taught)
    assert found.rtts[FRANKFURT].source is RttSource.LEARNED
    assert found.rtts[FRANKFURT].age_s == 3600.0
    assert found.rtts[FRANKFURT].spread_ms <= 6.0
    assert found.measured == {}
    own = of({"eu-frankfurt": (30.0, 30.0, 30.2)}, learned=taught).rtts[FRANKFURT]
    assert own.source is RttSource.PROBE
    assert own.rtt_ms == pytest.approx(30.0, abs=1.0)


def test_what_is_learned_of_undeclared_regions_is_no_evidence() -> None:
    taught = {region("mars"): RttEstimate(1.0, 1.0, RttSource.LEARNED)}
    assert of({}, learned=taught) == of({})


def test_without_probes_the_place_decides() -> None:
    found = of({}, Place(MAINZ, "geo"))
    assert {one.source for one in found.rtts.values()} == {RttSource.GEO}
    assert min(found.rtts, key=lambda id_: found.rtts[id_].rtt_ms) == FRANKFURT
    assert (found.location, found.location_source) == (MAINZ, "geo")


def test_with_nothing_known_every_region_counts_the_same() -> None:
    found = of({})
    assert {one.rtt_ms for one in found.rtts.values()} == {UNKNOWN_RTT_MS}
    assert {one.source for one in found.rtts.values()} == {RttSource.UNKNOWN}


def test_an_override_beats_the_address_database() -> None:
    declared = Topology(
        TOPOLOGY.regions,
        overrides=(
            Override(ip_network("10.0.0.0/8"), VIRGINIA),
            Override(ip_network("10.20.0.0/16"), PARIS),
        ),
    )
    place = find_place("10.20.1.1", MAINZ, declared)
    assert (place.source, place.region) == ("override", PARIS)
    found = estimate({}, place, declared, MATRIX)
    assert found.rtts[PARIS].source is RttSource.OVERRIDE
    assert min(found.rtts, key=lambda id_: found.rtts[id_].rtt_ms) == PARIS
    assert find_place("10.9.9.9", MAINZ, declared).region == VIRGINIA
    assert find_place("192.0.2.1", MAINZ, declared) == Place(MAINZ, "geo")
    assert find_place("::ffff:10.20.0.1", None, declared).region == PARIS


@pytest.mark.parametrize("address", [None, "", "nonsense", "10.0.0.1/8", "fe80::1%eth0"])
def test_a_malformed_address_has_no_override(address: str | None) -> None:
    assert override_for(address, [Override(ip_network("10.0.0.0/8"), PARIS)]) is None


# --- fusing ---------------------------------------------------------------------------------------

evidence = st.builds(
    RttEstimate, st.floats(0, 10_000), st.floats(0.5, 500), st.sampled_from(RttSource)
)


@given(
    st.lists(evidence, min_size=1, max_size=6).flatmap(
        lambda one: st.tuples(st.just(one), st.permutations(one))
    )
)
def test_the_order_of_the_evidence_does_not_matter(
    orders: tuple[list[RttEstimate], list[RttEstimate]],
) -> None:
    one, other = map(fuse, orders)
    assert one.rtt_ms == pytest.approx(other.rtt_ms, rel=1e-9, abs=1e-9)
    assert one.spread_ms == pytest.approx(other.spread_ms, rel=1e-9, abs=1e-9)


@given(st.lists(evidence, min_size=1, max_size=6))
def test_what_is_fused_lies_between_its_evidence_and_is_no_surer_than_it_may_be(
    found: list[RttEstimate],
) -> None:
    fused = fuse(found)
    rtts = [one.rtt_ms for one in found]
    assert min(rtts) - 1e-6 <= fused.rtt_ms <= max(rtts) + 1e-6
    # Independent figures that agree: their precisions add up, and no more than that.
    precision = math.fsum(1 / one.spread_ms**2 for one in found)
    assert fused.spread_ms >= (1 - 1e-9) / math.sqrt(precision)


@given(st.floats(0, 500), st.floats(0.5, 50), st.floats(0.5, 50), st.floats(0, 400))
def test_evidence_that_contradicts_itself_makes_less_sure_and_never_more(
    rtt: float, spread: float, other: float, apart: float
) -> None:
    one = RttEstimate(rtt, spread, RttSource.PROBE)
    agreeing = fuse([one, RttEstimate(rtt, other, RttSource.GEO)])
    contradicting = fuse([one, RttEstimate(rtt + apart, other, RttSource.GEO)])
    assert agreeing.spread_ms <= min(spread, other)
    assert contradicting.spread_ms >= agreeing.spread_ms * (1 - 1e-9)
    if apart > 3 * (spread + other):
        assert contradicting.spread_ms > 1.5 * agreeing.spread_ms


def test_the_surest_evidence_names_the_source_and_gives_its_age() -> None:
    old = RttEstimate(20.0, 3.0, RttSource.LEARNED, 60.0)
    guess = RttEstimate(40.0, 20.0, RttSource.GEO)
    assert (fuse([guess, old]).source, fuse([guess, old]).age_s) == (RttSource.LEARNED, 60.0)
    assert fuse([old]) == old
    assert fuse([]) == unknown_rtt()


# --- whatever comes -------------------------------------------------------------------------------

anything = st.floats(allow_nan=True, allow_infinity=True)
probe_sets = st.dictionaries(
    st.sampled_from([*map(region, CITIES), region("mars")]),
    st.lists(anything | st.floats(0, 400), max_size=4).map(tuple),
)
locations = st.builds(
    Location,
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.none() | st.floats(0, 25_000),
    st.booleans(),
)
places = st.one_of(
    st.just(NOWHERE),
    locations.map(lambda here: Place(here, "geo")),
    st.sampled_from([*map(region, CITIES), region("mars")]).map(
        lambda id_: Place(Location(0.0, 0.0), "override", id_)
    ),
)
lessons = st.dictionaries(
    st.sampled_from([*map(region, CITIES), region("mars")]),
    st.builds(
        RttEstimate,
        st.floats(0, 10_000),
        st.floats(1e-3, 1e6),
        st.just(RttSource.LEARNED),
        st.floats(0, 1e9),
    ),
)


def assert_sane(found: Estimates) -> None:
    assert set(found.rtts) == set(TOPOLOGY.regions)
    for one in (*found.rtts.values(), *found.measured.values()):
        assert math.isfinite(one.rtt_ms)
        assert one.rtt_ms >= 0
        assert math.isfinite(one.spread_ms)
        assert one.spread_ms > 0
        assert one.age_s >= 0
    assert all(sentence.strip() for sentence in found.notes)
    assert len(found.notes) < 20


@given(probe_sets, places, lessons)
@settings(max_examples=300)
def test_estimates_are_complete_and_never_negative_nan_or_certain(
    probes: dict[RegionId, tuple[float, ...]], place: Place, learned: Rtts
) -> None:
    found = estimate(probes, place, TOPOLOGY, MATRIX, learned)
    assert_sane(found)
    assert found.measured.keys() <= probes.keys()


@pytest.mark.parametrize("value", [math.nan, -math.inf, 0.0, 5e-324, 90.0, 1e308])
def test_thousands_of_samples_and_regions_change_nothing_about_that(value: float) -> None:
    flood = {region(f"r{i}"): (value,) for i in range(3000)}
    found = estimate(
        {**flood, **dict.fromkeys(TOPOLOGY.regions, (value,) * 3000)},
        Place(MAINZ, "geo"),
        TOPOLOGY,
        MATRIX,
    )
    assert_sane(found)


@given(probe_sets, places, lessons, st.randoms(use_true_random=False))
def test_the_order_of_probes_regions_and_lessons_does_not_matter(
    probes: dict[RegionId, tuple[float, ...]], place: Place, learned: Rtts, dice: Random
) -> None:
    other = replace(TOPOLOGY, regions=turned(TOPOLOGY.regions, dice))
    first = estimate(probes, place, TOPOLOGY, MATRIX, learned)
    second = estimate(
        turned(probes, dice), place, other, turned(MATRIX, dice), turned(learned, dice)
    )
    # repr: NaN in a note's number would not equal itself.
    assert repr(first) == repr(second)


def test_the_matrix_is_complete_symmetric_and_prefers_what_was_measured() -> None:
    matrix = region_matrix(
        TOPOLOGY, {(FRANKFURT, PARIS): 9.0, (PARIS, FRANKFURT): 8.0, (PARIS, VIRGINIA): math.nan}
    )
    assert matrix[FRANKFURT, PARIS] == matrix[PARIS, FRANKFURT] == 8.0
    assert matrix[FRANKFURT, VIRGINIA] == 90.0
    for a, here in TOPOLOGY.regions.items():
        for b, there in TOPOLOGY.regions.items():
            assert matrix[a, b] == matrix[b, a]
            light = fibre_rtt_ms(great_circle_km(here.location, there.location))
            assert matrix[a, b] >= light


def test_declared_round_trips_can_be_the_only_ones_that_count() -> None:
    measured = {(FRANKFURT, VIRGINIA): 0.2}
    assert region_matrix(TOPOLOGY, measured)[FRANKFURT, VIRGINIA] == 0.2
    assert region_matrix(TOPOLOGY, measured, declared_only=True)[FRANKFURT, VIRGINIA] == 90.0
