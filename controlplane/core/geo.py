"""Distance on the globe, and what it says about a round trip.

Distance explains round trips poorly (R² 0.67 over 221 client cities and 16 cloud regions), which is why every
figure here comes with a spread and every measurement beats it.
"""

import math

from controlplane.core.model import Location

EARTH_RADIUS_KM = 6371.0

FIBRE_RTT_MS_PER_KM = 2 / 204.0
"""Light in glass makes 204 km a millisecond (refractive index 1.468), there and back."""

CLIENT_DOOR_MS = 2.0
CLIENT_DETOUR_MS = 34.0
CLIENT_DETOUR_FROM_KM = 5000.0
CLIENT_MS_PER_KM = 0.0145
"""Fitted to measured round trips between 110 sites and up to 69 cloud regions (least squares, under 3,000 km and over
all): detours fade in over the first 5,000 km, which a straight line with a base of 25 to 32 ms gets wrong by 20 ms
where it matters most, near by. A client's last mile is not in it: it adds the same to every region."""

CLIENT_SPREAD_MS = 5.0
CLIENT_SPREAD_MS_PER_KM = 0.006
CLIENT_SPREAD_MAX_MS = 50.0
"""One standard deviation of the errors (nine tenths of them / 1.645): 6 ms at 500 km, 11 to 20 at 2,500, 41 to 48 at
9,000 and no more beyond."""

MESH_BASE_MS = 24.0
MESH_BASE_FROM_KM = 2000.0
MESH_MS_PER_KM = 0.015
"""The same between cloud regions: 24 ms + 15 ms per 1000 km over 7,000 measured pairs. The base is detours of long
paths; neighbours do not have it, so it fades in over the first 2000 km."""


def great_circle_km(a: Location, b: Location) -> float:
    """Return the distance in kilometres (haversine: exact enough near and far, antimeridian included)."""
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lat = math.sin((lat_b - lat_a) / 2)
    half_lon = math.sin(math.radians(b.lon - a.lon) / 2)
    chord = half_lat**2 + math.cos(lat_a) * math.cos(lat_b) * half_lon**2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(chord) if chord < 1 else 1.0)


def fibre_rtt_ms(distance_km: float) -> float:
    """Return the round trip in milliseconds that no cable of this length can beat."""
    return distance_km * FIBRE_RTT_MS_PER_KM


def client_rtt_ms(distance_km: float) -> float:
    """Return the expected round trip in milliseconds between a client and a region at this distance."""
    far = distance_km >= CLIENT_DETOUR_FROM_KM
    detour = CLIENT_DETOUR_MS * (1.0 if far else distance_km / CLIENT_DETOUR_FROM_KM)
    return CLIENT_DOOR_MS + detour + CLIENT_MS_PER_KM * distance_km


def client_spread_ms(distance_km: float, radius_km: float | None) -> float:
    """Return the standard deviation in milliseconds of `client_rtt_ms` for a place known within `radius_km`."""
    own = min(CLIENT_SPREAD_MAX_MS, CLIENT_SPREAD_MS + CLIENT_SPREAD_MS_PER_KM * distance_km)
    return math.hypot(own, CLIENT_MS_PER_KM * radius_km) if radius_km else own


def mesh_rtt_ms(distance_km: float) -> float:
    """Return the expected round trip in milliseconds between two regions at this distance."""
    base = MESH_BASE_MS * min(1.0, distance_km / MESH_BASE_FROM_KM)
    return base + MESH_MS_PER_KM * distance_km
