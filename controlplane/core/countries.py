"""Answers of address databases that mean "somewhere in this country", and how far that is.

A database that knows only the country still answers with a point: the middle of the country, or its capital, or a
farm in Kansas. Half the answers for servers are of this kind, a fifth of them leads to the wrong region, and the
accuracy radius beside it is often wrong too: a database of 2019 puts 99 million Chinese addresses on one point,
"within 50 km". So the radius of such an answer is at least the country's own.
"""

from dataclasses import replace
from math import pi, sqrt

from controlplane.core.model import Location

AREA_KM2 = {
    # Every country above a million.
    "RU": 17.10e6, "CA": 9.98e6, "US": 9.83e6, "CN": 9.60e6, "BR": 8.52e6, "AU": 7.69e6, "IN": 3.29e6, "AR": 2.78e6,
    "KZ": 2.72e6, "DZ": 2.38e6, "CD": 2.34e6, "GL": 2.17e6, "SA": 2.15e6, "MX": 1.96e6, "ID": 1.90e6, "SD": 1.86e6,
    "LY": 1.76e6, "IR": 1.65e6, "MN": 1.56e6, "PE": 1.29e6, "TD": 1.28e6, "NE": 1.27e6, "AO": 1.25e6, "ML": 1.24e6,
    "ZA": 1.22e6, "CO": 1.14e6, "ET": 1.10e6, "BO": 1.10e6, "MR": 1.03e6, "EG": 1.00e6,
    # Smaller ones with many addresses, which OTHER_AREA_KM2 would make too wide.
    "TR": 784e3, "UA": 604e3, "FR": 544e3, "TH": 513e3, "ES": 506e3, "SE": 450e3, "NO": 385e3, "JP": 378e3, "DE": 357e3,
    "FI": 338e3, "VN": 331e3, "MY": 330e3, "PL": 313e3, "IT": 301e3, "PH": 300e3, "NZ": 268e3, "GB": 244e3, "RO": 238e3,
    "GR": 132e3, "BG": 111e3, "KR": 100e3, "HU": 93e3, "PT": 92e3, "AT": 84e3, "AE": 84e3, "CZ": 79e3, "IE": 70e3,
    "DK": 43e3, "NL": 42e3, "CH": 41e3, "TW": 36e3, "BE": 31e3, "IL": 22e3, "LU": 2.6e3, "HK": 1.1e3, "SG": 0.73e3,
}  # fmt: skip
"""ISO 3166-1 code → square kilometres, the mainland where it is one."""

OTHER_AREA_KM2 = 1.0e6
"""All other countries are smaller."""

CONTINENT_AREA_KM2 = 10.2e6
"""Europe: what an answer without a country is about."""

CENTROIDS = {
    # As GeoLite2 has them; in a file of 2019 no address with a city has one of these.
    (37.751, -97.822): "US", (35.69, 139.69): "JP", (34.7725, 113.7266): "CN", (37.5112, 126.9741): "KR",
    (51.2993, 9.491): "DE", (51.4964, -0.1224): "GB", (48.8582, 2.3387): "FR", (-22.8305, -43.2192): "BR",
    (43.6319, -79.3716): "CA", (52.3824, 4.8995): "NL", (43.1479, 12.1097): "IT", (-33.494, 143.2104): "AU",
    (20.0063, 77.006): "IN", (-29.0, 24.0): "ZA", (30.0355, 31.223): "EG", (55.7386, 37.6068): "RU",
    (59.3247, 18.056): "SE", (35.698, 51.4115): "IR", (19.4371, -99.0111): "MX", (59.9452, 10.7559): "NO",
    (60.1717, 24.9349): "FI", (-6.175, 106.8286): "ID", (40.4172, -3.684): "ES", (52.2394, 21.0362): "PL",
    (4.5981, -74.0799): "CO", (-34.6022, -58.3845): "AR", (25.0, 45.0): "SA", (41.0214, 28.9948): "TR",
    (16.0023, 105.9999): "VN", (13.7442, 100.4608): "TH", (50.4522, 30.5287): "UA", (48.0, 68.0): "KZ",
    (36.7642, 3.1468): "DZ", (-12.0439, -77.0281): "PE", (47.0, 8.0): "",
    # Whole degrees of the World Factbook, as older files and hand-made ones have them.
    (38.0, -97.0): "US", (60.0, -95.0): "CA", (60.0, 100.0): "RU", (35.0, 105.0): "CN", (-10.0, -55.0): "BR",
    (-27.0, 133.0): "AU", (20.0, 77.0): "IN", (-34.0, -64.0): "AR", (28.0, 3.0): "DZ", (23.0, -102.0): "MX",
    (-5.0, 120.0): "ID", (46.0, 2.0): "FR", (51.0, 9.0): "DE", (54.0, -2.0): "GB", (36.0, 138.0): "JP",
    (52.0, 20.0): "PL", (40.0, -4.0): "ES", (62.0, 15.0): "SE", (49.0, 32.0): "UA", (39.0, 35.0): "TR",
    (27.0, 30.0): "EG", (32.0, 53.0): "IR", (4.0, -72.0): "CO", (-10.0, -76.0): "PE",
}  # fmt: skip
"""(latitude, longitude) → the country that it stands for; "" for a continent. Those of the largest countries, where
it matters; which file has them for the rest is told by the names that its records lack."""


def centroid_country(location: Location) -> str | None:
    """Return the country that a bare point stands for, None for a point that is a place."""
    return CENTROIDS.get((round(location.lat, 4), round(location.lon, 4)))


def country_only(location: Location, country: str | None) -> Location:
    """Return a point that stands for a whole country (ISO 3166-1 code; None or "" for a continent) as what it is."""
    area = AREA_KM2.get(country, OTHER_AREA_KM2) if country else CONTINENT_AREA_KM2
    radius_km = max(location.radius_km or 0.0, sqrt(area / pi))
    return replace(location, radius_km=radius_km, country_only=True)
