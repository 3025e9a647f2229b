"""Which override an address falls under, and what of its country is known."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.addresses import parse_network
from controlplane.core.countries import AREA_KM2, CENTROIDS, centroid_country, country_only
from controlplane.core.model import Location, Override, RegionId
from controlplane.core.place import override_for

NESTED = [
    "0.0.0.0/0", "10.0.0.0/8", "10.20.0.0/16", "10.20.30.0/24", "10.20.30.40/32",
    "::/0", "2001:db8::/32", "2001:db8:7::/48", "2001:db8:7:8::/64",
]  # fmt: skip


def overrides(*cidrs: str) -> list[Override]:
    """One region per range, named after it."""
    return [Override(parse_network(cidr), RegionId(cidr)) for cidr in cidrs]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.20.30.40", "10.20.30.40/32"),
        ("10.20.30.41", "10.20.30.0/24"),
        ("10.20.31.40", "10.20.0.0/16"),
        ("10.21.30.40", "10.0.0.0/8"),
        ("11.20.30.40", "0.0.0.0/0"),
        ("::ffff:10.20.30.40", "10.20.30.40/32"),
        ("::ffff:a14:1e28", "10.20.30.40/32"),
        ("2001:db8:7:8::1", "2001:db8:7:8::/64"),
        ("2001:db8:7:9::1", "2001:db8:7::/48"),
        ("2001:DB8:8:9::1", "2001:db8::/32"),
        ("2001:db9::1", "::/0"),
    ],
)
def test_of_overlapping_overrides_the_longest_wins_in_any_order(
    address: str, expected: str
) -> None:
    for order in (NESTED, NESTED[::-1], sorted(NESTED)):
        found = override_for(address, overrides(*order))
        assert found is not None
        assert found.region == expected


def test_families_do_not_mix() -> None:
    assert override_for("10.0.0.1", overrides("::/0")) is None
    assert override_for("2001:db8::1", overrides("0.0.0.0/0")) is None
    assert override_for("::ffff:10.0.0.1", overrides("::/0")) is None


def test_an_override_may_be_written_as_mapped() -> None:
    for address in ("10.20.1.1", "::ffff:10.20.1.1"):
        found = override_for(address, overrides("10.0.0.0/8", "::ffff:10.20.0.0/112"))
        assert found is not None
        assert found.region == "::ffff:10.20.0.0/112"


@given(
    st.ip_addresses(v=4),
    st.lists(st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), max_size=20),
)
def test_no_longer_prefix_contains_the_address(
    address: IPv4Address, ranges: list[tuple[IPv4Address, int]]
) -> None:
    networks = [IPv4Network((ip, length), strict=False) for ip, length in ranges]
    found = override_for(str(address), [Override(one, RegionId("r")) for one in networks])
    containing = [one for one in networks if address in one]
    if found is None:
        assert containing == []
    else:
        assert address in found.cidr
        assert found.cidr.prefixlen == max(one.prefixlen for one in containing)


@given(st.ip_addresses(v=6))
def test_an_address_is_within_the_override_of_itself(address: IPv6Address) -> None:
    assert (
        override_for(str(address), [Override(parse_network(str(address)), RegionId("r"))])
        is not None
    )


# --- countries ------------------------------------------------------------------------------------


def test_every_centroid_stands_for_a_country_whose_size_is_known() -> None:
    assert {country for country in CENTROIDS.values() if country} <= set(AREA_KM2)
    assert all(-90 <= lat <= 90 and -180 <= lon <= 180 for lat, lon in CENTROIDS)


def test_a_point_is_a_centroid_only_if_it_is_the_very_same() -> None:
    assert centroid_country(Location(37.751, -97.822)) == "US"
    assert centroid_country(Location(47.0, 8.0)) == ""
    assert centroid_country(Location(37.752, -97.822)) is None


@pytest.mark.parametrize(
    ("country", "radius_km"),
    [("US", 1769), ("DE", 337), ("SG", 15), ("XX", 564), ("", 1802), (None, 1802)],
)
def test_the_radius_is_at_least_the_countrys_own(country: str | None, radius_km: float) -> None:
    found = country_only(Location(1.0, 2.0, 10.0), country)
    assert (found.lat, found.lon, found.country_only) == (1.0, 2.0, True)
    assert found.radius_km == pytest.approx(radius_km, abs=1)
    assert country_only(Location(1.0, 2.0, 9000.0), country).radius_km == 9000.0
