"""Probes are the client's word: what cannot be true is set aside, and is said to be."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.geo import fibre_rtt_ms, great_circle_km
from controlplane.core.mesh import region_matrix
from controlplane.core.model import Location, RegionId, RttSource
from controlplane.core.place import NOWHERE, Place
from controlplane.core.rtt import Estimates, estimate
from tests.core.build import CITIES, region, topology

TOPOLOGY = topology()
MATRIX = region_matrix(TOPOLOGY, {})
MAINZ = Location(50.0, 8.27, 20)
FRANKFURT, PARIS, VIRGINIA, SINGAPORE, SYDNEY = map(
    region, ["eu-frankfurt", "eu-paris", "us-virginia", "ap-singapore", "ap-sydney"]
)
HONEST = {FRANKFURT: 6.0, PARIS: 14.0, VIRGINIA: 93.0, SINGAPORE: 168.0, SYDNEY: 260.0}
"""Of somebody in Mainz."""


def of(probes: Mapping[str, tuple[float, ...]], place: Place = NOWHERE) -> Estimates:
    return estimate(
        {region(id_): samples for id_, samples in probes.items()}, place, TOPOLOGY, MATRIX
    )


def of_mainz(told: Mapping[RegionId, float]) -> Estimates:
    return estimate({id_: (ms,) for id_, ms in told.items()}, Place(MAINZ, "geo"), TOPOLOGY, MATRIX)


def test_honest_probes_are_believed_in_silence() -> None:
    found = of_mainz(HONEST)
    assert found.notes == ()
    assert {id_: one.rtt_ms for id_, one in found.measured.items()} == HONEST


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


def test_a_sample_wildly_smaller_than_the_others_is_set_aside_and_said_so() -> None:
    found = of({"us-virginia": (94.0, 1.5, 93.0, 97.0)})
    assert found.rtts[VIRGINIA].rtt_ms == 93.0
    assert found.notes[0].startswith("A sample of us-virginia (1.5 ms) is set aside")


@given(st.lists(st.floats(0, 20), min_size=1, max_size=3))
def test_a_few_wildly_small_samples_among_many_change_nothing(odd: list[float]) -> None:
    steady = (93.0, 93.5, 94.0, 94.0, 95.0, 97.0, 98.0)
    found = of({"us-virginia": (*odd, *steady)})
    assert found.rtts[VIRGINIA].rtt_ms == 93.0
    assert len(found.notes) == len(odd)


def test_a_sample_that_waited_in_a_queue_is_no_lie() -> None:
    found = of({"us-virginia": (93.0, 94.0, 700.0)})
    assert found.rtts[VIRGINIA].rtt_ms == 93.0
    assert found.notes == ()


def test_two_samples_wildly_apart_are_far_from_sure() -> None:
    apart = of({"us-virginia": (20.0, 93.0)}).rtts[VIRGINIA]
    near = of({"us-virginia": (92.0, 93.0)}).rtts[VIRGINIA]
    assert apart.spread_ms > 10 * near.spread_ms


def test_a_single_probe_faster_than_light_from_the_place_is_set_aside_and_said_so() -> None:
    found = of_mainz({SINGAPORE: 3.0})
    assert found.rtts[SINGAPORE].source is RttSource.GEO
    assert "The probe of ap-singapore (3.0 ms) is set aside: light needs" in found.notes[0]
    assert found.measured == {}


def test_probes_never_rule_out_what_an_operator_says() -> None:
    here = TOPOLOGY.regions[VIRGINIA].location
    override = Place(here, "override", VIRGINIA)
    found = of({"eu-frankfurt": (5.0,), "eu-paris": (13.0,)}, override)
    assert found.measured == {}
    assert (found.location, found.location_source) == (here, "override")
    assert len([one for one in found.notes if "light needs" in one]) == 2


def test_probes_that_contradict_one_another_lose_against_the_place() -> None:
    found = of_mainz({SINGAPORE: 3.0, VIRGINIA: 3.0})
    assert found.measured == {}
    assert found.location == MAINZ
    assert len(found.notes) == 2
    assert all("together with another one it is faster than light" in one for one in found.notes)


def test_probes_that_agree_win_against_the_place() -> None:
    kansas = Place(Location(37.75, -97.82, 1000), "geo")
    found = of({"eu-frankfurt": (5.0,), "eu-paris": (13.0,)}, kansas)
    assert found.measured.keys() == {FRANKFURT, PARIS}
    assert found.rtts[FRANKFURT].rtt_ms == pytest.approx(5.0, abs=0.5)
    assert (found.location, found.location_source) == (None, "unknown")
    assert "place is set aside" in found.notes[0]
    assert found.rtts[VIRGINIA].source is RttSource.VIA_MESH


@pytest.mark.parametrize("liar", [VIRGINIA, SINGAPORE, SYDNEY])
def test_one_lie_among_honest_probes_is_the_one_that_is_set_aside(liar: RegionId) -> None:
    found = of_mainz({**HONEST, liar: 2.0})
    assert found.measured.keys() == HONEST.keys() - {liar}
    assert [one for one in found.notes if liar in one] == list(found.notes) != []
    assert found.location == MAINZ
    assert found.rtts[liar].rtt_ms > 0.5 * HONEST[liar]


times = st.dictionaries(st.sampled_from(sorted(map(region, CITIES))), st.floats(0, 300))


@given(times, st.sampled_from([NOWHERE, Place(MAINZ, "geo"), Place(Location(-35.0, 150.0), "geo")]))
def test_what_is_believed_is_possible_and_what_is_not_believed_is_said(
    told: dict[RegionId, float], place: Place
) -> None:
    found = estimate({id_: (ms,) for id_, ms in told.items()}, place, TOPOLOGY, MATRIX)
    regions = TOPOLOGY.regions
    believed = {id_: one.rtt_ms for id_, one in found.measured.items()}
    for a, to_a in believed.items():
        for b, to_b in believed.items():
            apart = great_circle_km(regions[a].location, regions[b].location)
            assert a == b or to_a + to_b >= fibre_rtt_ms(apart)
    for id_ in told.keys() - believed.keys():
        assert any(f"The probe of {id_} " in one for one in found.notes)
    if place.location is not None and found.location is None:
        assert len(believed) > 1
        assert any("place is set aside" in one for one in found.notes)


def test_a_lie_may_cost_the_liar_but_is_told_in_few_words() -> None:
    flood = {f"nowhere-{i}": (1.0,) for i in range(1000)}
    assert len(of(flood).notes) < 20
