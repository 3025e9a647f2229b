"""GeoIP files of both kinds; an unknown place is never an exception."""

from pathlib import Path
from typing import Any

import maxminddb
import pytest

from controlplane.adapters.geoip import GeoIp, demo_database
from controlplane.core.addresses import parse_address, parse_network
from controlplane.core.countries import CENTROIDS
from controlplane.core.model import Location
from controlplane.errors import InvalidInputError
from tests.fakes.mmdb import write_mmdb

BERLIN = {
    "city": {"names": {"en": "Berlin"}},
    "country": {"iso_code": "DE"},
    "location": {"latitude": 52.5, "longitude": 13.4, "accuracy_radius": 20},
}
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
    assert google.country_only
    assert google.radius_km == pytest.approx(1769, abs=1)
    wikimedia = geo.locate("91.198.174.192")
    assert wikimedia is not None
    assert wikimedia.country_only
    geo.close()


def test_in_the_demo_database_no_city_lies_on_a_centroid() -> None:
    demo = demo_database()
    if demo is None:
        pytest.skip("the extra geoip-demo is not installed")
    with maxminddb.open_database(demo) as reader:
        networks = ("8.8.8.0/24", "91.198.174.0/24", "1.2.4.0/24", "126.0.0.0/8", "5.45.192.0/18")
        for network in networks:
            addresses = parse_network(network)
            for index in range(1, addresses.num_addresses, 4093):
                record = reader.get(str(addresses[index]))
                assert isinstance(record, dict)
                place = record["location"]
                assert isinstance(place, dict)
                if (place["latitude"], place["longitude"]) in CENTROIDS:
                    assert "city" not in record


def test_a_radius_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    record = {"latitude": 1.0, "longitude": 2.0, "accuracy_radius": "inf"}
    path = write_mmdb(tmp_path / "x.mmdb", "city ipv4", {"1.0.0.0/8": record}, ip_version=4)
    geo = GeoIp.open([path])
    assert geo.locate("1.1.1.1") == Location(1.0, 2.0, None)
    geo.close()


def test_mapped_addresses_are_ipv4() -> None:
    assert str(parse_address("::ffff:192.0.2.1")) == "192.0.2.1"


def test_mapped_networks_are_ipv4() -> None:
    assert str(parse_network("::ffff:10.0.0.0/104")) == "10.0.0.0/8"
    assert str(parse_network("::ffff:0:0/96")) == "0.0.0.0/0"
    assert str(parse_network("::/0")) == "::/0"
    assert str(parse_network("2001:db8::/32")) == "2001:db8::/32"


# --- answers that know the country only -----------------------------------------------------------

WICHITA = {"latitude": 37.751, "longitude": -97.822}
US = {"country": {"iso_code": "US"}}


def locate(path: Path, kind: str, record: Any) -> Location:
    geo = GeoIp.open([write_mmdb(path / "x.mmdb", kind, {"81.0.0.0/8": record})])
    found = geo.locate("81.1.2.3")
    geo.close()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("record", "radius_km"),
    [
        ({**US, "location": {**WICHITA, "accuracy_radius": 1000}}, 1769),
        ({**US, "location": {**WICHITA, "accuracy_radius": 50}}, 1769),
        ({**US, "location": {**WICHITA, "accuracy_radius": 5000}}, 5000),
        ({"country": {"iso_code": "SG"}, "location": {**WICHITA, "accuracy_radius": 10}}, 15),
        ({"country": {"iso_code": "KE"}, "location": WICHITA}, 564),
        ({"continent": {"code": "EU"}, "location": {"latitude": 47.0, "longitude": 8.0}}, 1802),
    ],
)
def test_an_answer_without_city_and_subdivision_covers_its_country(
    tmp_path: Path, record: object, radius_km: float
) -> None:
    found = locate(tmp_path, "GeoLite2-City", record)
    assert found.country_only
    assert found.radius_km == pytest.approx(radius_km, abs=1)


def test_a_subdivision_is_more_than_a_country(tmp_path: Path) -> None:
    place = {"latitude": 37.2, "longitude": -119.3, "accuracy_radius": 500}
    record = {**US, "subdivisions": [{"iso_code": "CA"}], "location": place}
    assert locate(tmp_path, "GeoLite2-City", record) == Location(37.2, -119.3, 500.0)


@pytest.mark.parametrize("names", [{"city": ""}, {"city": "", "state1": ""}])
def test_a_flat_record_whose_city_is_empty_covers_its_country(
    tmp_path: Path, names: dict[str, str]
) -> None:
    record = {**names, "latitude": 36.0, "longitude": 138.0, "country_code": "JP"}
    found = locate(tmp_path, "city ipv4", record)
    assert found.country_only
    assert found.radius_km == pytest.approx(347, abs=1)


def test_a_flat_record_without_a_city_in_a_file_that_names_them(tmp_path: Path) -> None:
    records = {
        "81.0.0.0/8": FLAT_TOKYO,
        "82.0.0.0/8": {**FLAT_TOKYO, "city": "Tokyo"},
        "83.0.0.0/8": {**FLAT_TOKYO, "state1": "Tokyo"},
    }
    geo = GeoIp.open([write_mmdb(tmp_path / "x.mmdb", "city ipv4", records, ip_version=4)])
    found = [geo.locate(f"{net}.1.2.3") for net in (81, 82, 83)]
    assert [one and one.country_only for one in found] == [True, False, False]
    geo.close()


@pytest.mark.parametrize(
    ("lat", "lon", "radius_km"), [(37.751, -97.822, 1769), (38.0, -97.0, 1769), (47.0, 8.0, 1802)]
)
def test_bare_coordinates_that_are_a_known_centroid(
    tmp_path: Path, lat: float, lon: float, radius_km: float
) -> None:
    found = locate(tmp_path, "city ipv4", {"latitude": lat, "longitude": lon})
    assert found.country_only
    assert found.radius_km == pytest.approx(radius_km, abs=1)


def test_bare_coordinates_beside_a_centroid_are_a_place(tmp_path: Path) -> None:
    found = locate(tmp_path, "city ipv4", {"latitude": 37.76, "longitude": -97.822})
    assert found == Location(37.76, -97.822)


def test_a_city_on_a_centroid_is_a_place(tmp_path: Path) -> None:
    found = locate(tmp_path, "city ipv4", {**WICHITA, "city": "Cheney"})
    assert found == Location(37.751, -97.822)
