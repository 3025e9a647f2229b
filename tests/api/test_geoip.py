"""GeoIP files of both kinds; an unknown place is never an exception."""

from pathlib import Path

import pytest

from controlplane.adapters.geoip import GeoIp, demo_database, parse_address
from controlplane.core.model import Location
from controlplane.errors import InvalidInputError
from tests.fakes.mmdb import write_mmdb

BERLIN = {"location": {"latitude": 52.5, "longitude": 13.4, "accuracy_radius": 20}}
FLAT_TOKYO = {"latitude": 35.7, "longitude": 139.7, "country_code": "JP"}


@pytest.fixture
def city(tmp_path: Path) -> Path:
    records = {
        "81.0.0.0/8": BERLIN,
        "2a00::/16": BERLIN,
        "82.0.0.0/8": {"country": {"iso_code": "DE"}},
    }
    return write_mmdb(tmp_path / "city.mmdb", "GeoLite2-City", records)


@pytest.fixture
def flat_v4(tmp_path: Path) -> Path:
    records = {
        "1.0.0.0/8": FLAT_TOKYO,
        "81.0.0.0/8": FLAT_TOKYO,
        "2.0.0.0/8": {"country_code": "FR"},
    }
    return write_mmdb(tmp_path / "flat.mmdb", "city ipv4", records, ip_version=4)


@pytest.mark.parametrize(
    "kind", ["GeoLite2-City", "GeoIP2-City", "DBIP-City-Lite", "GeoIP2-Enterprise"]
)
def test_the_standard_schema_with_its_accuracy(tmp_path: Path, kind: str) -> None:
    geo = GeoIp.open([write_mmdb(tmp_path / "x.mmdb", kind, {"81.0.0.0/8": BERLIN})])
    assert geo.locate("81.1.2.3") == Location(52.5, 13.4, 20.0)
    geo.close()


def test_flat_records_without_an_accuracy(flat_v4: Path) -> None:
    geo = GeoIp.open([flat_v4])
    assert geo.locate("1.2.3.4") == Location(35.7, 139.7, None)
    assert geo.locate("::ffff:1.2.3.4") == Location(35.7, 139.7, None)
    geo.close()


def test_flat_records_with_numbers_as_text(tmp_path: Path) -> None:
    record = {"latitude": "35.7", "longitude": "139.7"}
    geo = GeoIp.open(
        [write_mmdb(tmp_path / "x.mmdb", "city ipv4", {"1.0.0.0/8": record}, ip_version=4)]
    )
    assert geo.locate("1.2.3.4") == Location(35.7, 139.7, None)
    geo.close()


def test_the_first_file_that_knows_an_address_answers(city: Path, flat_v4: Path) -> None:
    geo = GeoIp.open([flat_v4, city])
    assert geo.locate("81.1.2.3") == Location(35.7, 139.7, None)
    assert geo.locate("2a00::1") == Location(52.5, 13.4, 20.0), "the IPv4 file must not be asked"
    geo.close()


@pytest.mark.parametrize(
    "address",
    [
        "9.9.9.9",
        "82.1.1.1",
        "2.1.1.1",
        "2a01::1",
        "10.1.2.3",
        "127.0.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - a client's address, not one to listen on
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "2a00::1%eth0",
        "fd00::1",
        "2001:db8::1",
        "",
        " ",
        "x",
        "81.1.2",
        "81.1.2.3.4",
        "81.1.2.3/32",
        "081.1.2.3",
        "\x00",
        "8" * 10_000,
    ],
)
def test_private_unknown_and_malformed_addresses_are_unknown(
    city: Path, flat_v4: Path, address: str
) -> None:
    geo = GeoIp.open([city, flat_v4])
    assert geo.locate(address) is None
    geo.close()


@pytest.mark.parametrize(
    "location",
    [
        {"latitude": 91.0, "longitude": 0.0},
        {"latitude": "x", "longitude": 0.0},
        {"latitude": 1.0},
        "x",
    ],
)
def test_a_damaged_record_is_unknown(tmp_path: Path, location: object) -> None:
    records = {"81.0.0.0/8": {"location": location}}
    geo = GeoIp.open([write_mmdb(tmp_path / "x.mmdb", "GeoLite2-City", records)])
    assert geo.locate("81.1.2.3") is None
    assert geo.locate("81.1.2.3") is None
    geo.close()


def test_what_is_no_database_is_refused_by_name(tmp_path: Path, city: Path) -> None:
    text = tmp_path / "text.mmdb"
    text.write_text("not a database")
    country = write_mmdb(tmp_path / "c.mmdb", "GeoLite2-Country", {"81.0.0.0/8": {"country": {}}})
    for path in (text, country, tmp_path / "missing.mmdb"):
        with pytest.raises(InvalidInputError) as caught:
            GeoIp.open([city, path])
        assert caught.value.code == "geoip-unreadable"
        assert str(path) in caught.value.detail


def test_the_age_of_a_file(city: Path) -> None:
    geo = GeoIp.open([city])
    assert geo.built == {city: 1_700_000_000.0}
    geo.close()


def test_the_demo_database_is_the_one_of_2019() -> None:
    demo = demo_database()
    if demo is None:
        pytest.skip("the extra geoip-demo is not installed")
    geo = GeoIp.open([demo])
    assert geo.built == {demo: 1_577_209_301.0}
    google = geo.locate("8.8.8.8")
    assert google is not None
    assert google.radius_km == 1000
    geo.close()


def test_a_radius_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    record = {"latitude": 1.0, "longitude": 2.0, "accuracy_radius": "inf"}
    path = write_mmdb(tmp_path / "x.mmdb", "city ipv4", {"1.0.0.0/8": record}, ip_version=4)
    geo = GeoIp.open([path])
    assert geo.locate("1.1.1.1") == Location(1.0, 2.0, None)
    geo.close()


def test_mapped_addresses_are_ipv4() -> None:
    assert str(parse_address("::ffff:192.0.2.1")) == "192.0.2.1"
