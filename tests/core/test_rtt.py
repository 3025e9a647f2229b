import math
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.geo import fibre_rtt_ms, great_circle_km
from controlplane.core.mesh import region_matrix
from controlplane.core.model import Location, Override, RttSource, Topology
from controlplane.core.place import NOWHERE, Place, find_place, override_for
from controlplane.core.rtt import UNKNOWN_RTT_MS, Estimates, estimate
from tests.core.build import CITIES, region, topology

TOPOLOGY = topology()
MATRIX = region_matrix(TOPOLOGY, {})
MAINZ = Location(50.0, 8.27, 20)
FRANKFURT, PARIS, VIRGINIA, SINGAPORE = map(
    region, ["eu-frankfurt", "eu-paris", "us-virginia", "ap-singapore"]
)


def of(probes: dict[str, tuple[float, ...]], place: Place = NOWHERE) -> Estimates:
    return estimate(
        {region(id_): samples for id_, samples in probes.items()}, place, TOPOLOGY, MATRIX
    )


def test_a_probe_is_its_smallest_sample() -> None:
    found = of({"eu-frankfurt": (9.0, 5.0, 30.0)}).rtts[FRANKFURT]
    assert (found.rtt_ms, found.source) == (5.0, RttSource.PROBE)
    assert found.spread_ms == 4.0


def test_unprobed_regions_go_through_the_mesh() -> None:
    found = of({"eu-frankfurt": (5.0,), "us-virginia": (88.0,)})
    assert found.rtts[PARIS].source is RttSource.VIA_MESH
    assert found.rtts[PARIS].rtt_ms == 15.0
    assert found.rtts[SINGAPORE].rtt_ms == 165.0


def test_a_far_probe_says_less_about_a_near_region_than_the_place_does() -> None:
    found = of({"ap-singapore": (165.0,)}, Place(MAINZ, "geo"))
    assert found.rtts[FRANKFURT].source is RttSource.GEO
    assert found.rtts[SINGAPORE].source is RttSource.PROBE


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


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf, -math.inf, 10_001.0])
def test_samples_that_are_no_round_trip_are_set_aside_and_said_so(bad: float) -> None:
    found = of({"eu-frankfurt": (bad, 7.0)})
    assert found.rtts[FRANKFURT].rtt_ms == 7.0
    assert "1 of 2 samples of eu-frankfurt" in found.notes[0]
    assert of({"eu-frankfurt": (bad,)}).rtts[FRANKFURT].source is RttSource.UNKNOWN


def test_a_probe_of_an_undeclared_region_is_set_aside_and_said_so() -> None:
    found = of({"mars": (1.0,)})
    assert "mars" in found.notes[0]
    assert "mars" not in found.rtts


def test_a_single_probe_faster_than_light_is_set_aside() -> None:
    found = of({"ap-singapore": (3.0,)}, Place(MAINZ, "geo"))
    assert found.rtts[SINGAPORE].source is RttSource.GEO
    assert "light needs" in found.notes[0]
    assert found.measured == {}


def test_probes_that_contradict_one_another_lose_against_the_place() -> None:
    found = of({"ap-singapore": (3.0,), "us-virginia": (3.0,)}, Place(MAINZ, "geo"))
    assert found.measured == {}
    assert found.location == MAINZ


def test_probes_that_agree_win_against_the_place() -> None:
    kansas = Place(Location(37.75, -97.82, 1000), "geo")
    found = of({"eu-frankfurt": (5.0,), "eu-paris": (13.0,)}, kansas)
    assert found.rtts[FRANKFURT].rtt_ms == 5.0
    assert (found.location, found.location_source) == (None, "unknown")
    assert "place is set aside" in found.notes[0]
    assert found.rtts[VIRGINIA].source is RttSource.VIA_MESH


anything = st.floats(allow_nan=True, allow_infinity=True)
probe_sets = st.dictionaries(
    st.sampled_from([*map(region, CITIES), region("mars")]),
    st.lists(anything | st.floats(0, 400), max_size=4).map(tuple),
)
somewhere = st.none() | st.builds(
    Location, st.floats(-90, 90), st.floats(-180, 180), st.none() | st.floats(0, 5000)
)


@given(probe_sets, somewhere)
def test_estimates_are_always_complete_and_sane(
    probes: dict[str, tuple[float, ...]], location: Location | None
) -> None:
    place = NOWHERE if location is None else Place(location, "geo")
    found = of(probes, place)
    assert set(found.rtts) == set(TOPOLOGY.regions)
    for one in found.rtts.values():
        assert math.isfinite(one.rtt_ms)
        assert one.rtt_ms >= 0
        assert math.isfinite(one.spread_ms)
        assert one.spread_ms > 0


@given(probe_sets)
def test_the_order_of_probes_does_not_matter(probes: dict[str, tuple[float, ...]]) -> None:
    backwards = dict(reversed(list(probes.items())))
    assert repr(of(probes)) == repr(of(backwards))


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
