import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core import geo
from controlplane.core.model import Location

places = st.builds(
    Location,
    lat=st.floats(-90, 90, allow_nan=False),
    lon=st.floats(-180, 180, allow_nan=False),
)


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        (Location(50.11, 8.68), Location(39.04, -77.49), 6540),
        (Location(0, 0), Location(0, 180), math.pi * geo.EARTH_RADIUS_KM),
        (Location(0, 179.9), Location(0, -179.9), 22.2),
        (Location(90, 0), Location(90, 90), 0),
    ],
)
def test_known_distances(a: Location, b: Location, km: float) -> None:
    assert geo.great_circle_km(a, b) == pytest.approx(km, rel=0.01, abs=0.1)


@given(places, places)
def test_distance_is_symmetric_and_within_half_the_globe(a: Location, b: Location) -> None:
    distance = geo.great_circle_km(a, b)
    assert 0 <= distance <= math.pi * geo.EARTH_RADIUS_KM + 1e-6
    assert distance == pytest.approx(geo.great_circle_km(b, a))


@given(st.floats(0, 20_100))
def test_no_model_beats_light(distance: float) -> None:
    assert geo.client_rtt_ms(distance) >= geo.fibre_rtt_ms(distance)
    assert geo.mesh_rtt_ms(distance) >= geo.fibre_rtt_ms(distance)


@given(st.floats(0, 20_100), st.floats(0, 20_100))
def test_farther_is_never_expected_sooner_nor_known_better(one: float, other: float) -> None:
    near, far = sorted((one, other))
    assert geo.client_rtt_ms(near) <= geo.client_rtt_ms(far)
    assert geo.mesh_rtt_ms(near) <= geo.mesh_rtt_ms(far)
    assert 0 < geo.client_spread_ms(near, None) <= geo.client_spread_ms(far, None)


def test_neighbours_do_not_pay_for_the_detours_of_long_ways() -> None:
    for model in (geo.client_rtt_ms, geo.mesh_rtt_ms):
        assert model(100) < 15
        assert 15 < model(1000) < 50
        assert 130 < model(10_000) < 230


def test_a_wider_radius_makes_a_wider_spread() -> None:
    assert geo.client_spread_ms(500, None) == geo.client_spread_ms(500, 0)
    assert geo.client_spread_ms(500, 1000) > geo.client_spread_ms(500, 50)
