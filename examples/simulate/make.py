"""Make the small world of this folder: `python make.py [FOLDER]`. The same bytes every time.

Everything here is synthetic. The cities are real, and so are the distances; round trips, companies and calls are
made up: light in fibre, detours through the exchange that a city's traffic goes through, a last mile, and dice with
a fixed seed.
"""

import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Place = tuple[float, float]
"""Degrees north and east."""

REGIONS = {
    "eu-frankfurt": ("Frankfurt", (50.11, 8.68)),
    "us-virginia": ("Virginia", (38.95, -77.45)),
    "us-oregon": ("Oregon", (45.60, -121.18)),
    "sa-saopaulo": ("São Paulo", (-23.55, -46.63)),
    "ap-singapore": ("Singapore", (1.35, 103.82)),
    "ap-mumbai": ("Mumbai", (19.08, 72.88)),
}
NEW = "ap-mumbai"

EXCHANGES = {
    "frankfurt": (50.11, 8.68),
    "marseille": (43.30, 5.37),
    "london": (51.51, -0.13),
    "ashburn": (39.04, -77.49),
    "miami": (25.76, -80.19),
    "seattle": (47.61, -122.33),
    "singapore": (1.35, 103.82),
    "tokyo": (35.68, 139.69),
    "mumbai": (19.08, 72.88),
}

CITIES = """
europe lisbon 38.72 -9.14 marseille
europe madrid 40.42 -3.70 marseille
europe paris 48.86 2.35 -
europe london 51.51 -0.13 -
europe dublin 53.35 -6.26 london
europe amsterdam 52.37 4.90 -
europe berlin 52.52 13.40 frankfurt
europe zurich 47.38 8.54 frankfurt
europe milan 45.46 9.19 -
europe stockholm 59.33 18.07 frankfurt
europe warsaw 52.23 21.01 frankfurt
europe vienna 48.21 16.37 frankfurt
europe bucharest 44.43 26.10 frankfurt
europe athens 37.98 23.73 frankfurt
europe istanbul 41.01 28.98 frankfurt
america newyork 40.71 -74.01 -
america boston 42.36 -71.06 ashburn
america toronto 43.65 -79.38 -
america atlanta 33.75 -84.39 ashburn
america chicago 41.88 -87.63 -
america dallas 32.78 -96.80 -
america denver 39.74 -104.99 -
america seattle 47.61 -122.33 -
america sanfrancisco 37.77 -122.42 -
america losangeles 34.05 -118.24 -
america mexico 19.43 -99.13 -
south bogota 4.71 -74.07 miami
south lima -12.05 -77.04 miami
south santiago -33.45 -70.67 -
south buenosaires -34.60 -58.38 -
south saopaulo -23.55 -46.63 -
south recife -8.05 -34.90 -
india mumbai 19.08 72.88 -
india pune 18.52 73.86 mumbai
india delhi 28.61 77.21 mumbai
india bangalore 12.97 77.59 mumbai
india hyderabad 17.39 78.49 mumbai
india chennai 13.08 80.27 -
india kolkata 22.57 88.36 mumbai
india colombo 6.93 79.86 -
india dubai 25.20 55.27 marseille
india karachi 24.86 67.01 marseille
asia singapore 1.35 103.82 -
asia jakarta -6.21 106.85 singapore
asia bangkok 13.76 100.50 singapore
asia manila 14.60 120.98 -
asia hongkong 22.32 114.17 -
asia taipei 25.03 121.57 tokyo
asia tokyo 35.68 139.69 -
asia seoul 37.57 126.98 tokyo
asia sydney -33.87 151.21 -
asia melbourne -37.81 144.96 -
asia auckland -36.85 174.76 -
"""
"""Part of the world, name, place, and the exchange that the city's traffic goes through (`-`: none)."""

TWO_NETWORKS = frozenset({"london", "berlin", "newyork", "mumbai", "bangalore", "delhi", "tokyo"})
NAMES = ("ana", "bob", "chi", "dan", "eve", "fay", "gus", "hal")

FIBRE_RTT_MS_PER_KM = 2 / 204
"""Light in glass makes 204 km a millisecond; there and back."""

MONDAY_9_UTC = 9 * 3600
ROOMS = 72
WINDOW_S = 3 * 3600
NODES = "{desired: 2, capacity: 60}"


class Dice:
    """`random()` gives the same numbers in every version of Python; the rest of the module need not."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random  # noqa: S311 - the same world every time

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def one_of(self, things: Sequence[T]) -> T:
        return things[int(self._random() * len(things))]

    def chance(self, share: float) -> bool:
        return self._random() < share

    def shuffled(self, things: Sequence[T]) -> list[T]:
        return [
            thing for _, _, thing in sorted((self._random(), i, t) for i, t in enumerate(things))
        ]


def km(a: Place, b: Place) -> float:
    lat_a, lat_b = math.radians(a[0]), math.radians(b[0])
    half = math.sin((lat_b - lat_a) / 2) ** 2
    half += math.cos(lat_a) * math.cos(lat_b) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    return 12_742 * math.asin(math.sqrt(half))


class World:
    """Networks, their true round trips, and what an address database believes of their places."""

    def __init__(self, dice: Dice) -> None:
        self.parts: dict[str, list[str]] = {}
        self.clients: dict[str, dict[str, float]] = {}
        self.believed: dict[str, dict[str, float] | None] = {}
        for row in CITIES.split("\n"):
            if not row:
                continue
            part, city, lat, lon, exchange = row.split()
            for number in (1, 2) if city in TWO_NETWORKS else (1,):
                network = f"{city}-{number}"
                at = (float(lat), float(lon))
                self.parts.setdefault(part, []).append(network)
                self.clients[network] = _round_trips(at, EXCHANGES.get(exchange), dice)
                self.believed[network] = _belief(at, dice)
        self.regions = {
            (a, b): _rtt(REGIONS[a][1], None, REGIONS[b][1], dice.between(1.25, 1.6))
            for a in REGIONS
            for b in REGIONS
            if a < b
        }


def _rtt(a: Place, through: Place | None, b: Place, detours: float) -> float:
    way = km(a, b) if through is None else km(a, through) + km(through, b)
    return 0.5 + way * FIBRE_RTT_MS_PER_KM * detours


def _round_trips(at: Place, exchange: Place | None, dice: Dice) -> dict[str, float]:
    last_mile = dice.between(2, 14)
    return {
        region: last_mile + _rtt(at, exchange, place, dice.between(1.3, 1.9))
        for region, (_, place) in REGIONS.items()
    }


def _belief(at: Place, dice: Dice) -> dict[str, float] | None:
    """Most networks are placed within 60 km, some hundreds off, a few in another country, a few nowhere."""
    fate = dice.between(0, 1)
    if fate < 0.05:
        return None
    off = dice.between(0, 60)
    if fate > 0.80:
        off = dice.between(150, 650)
    if fate > 0.95:
        off = dice.between(1500, 3000)
    bearing = dice.between(0, 2 * math.pi)
    lat = at[0] + off / 111 * math.cos(bearing)
    lon = at[1] + off / 111 * math.sin(bearing) / math.cos(math.radians(at[0]))
    place = {"lat": round(lat, 2), "lon": round((lon + 180) % 360 - 180, 2)}
    if dice.chance(0.5):
        place["radius_km"] = dice.one_of((20, 50, 100, 500))
    return place


def rooms(world: World, dice: Dice) -> list[list[str]]:
    """Return who meets: a list of networks per room, in the order in which they join."""
    everybody = sorted(world.clients)
    # Twice as many calls from Europe and India as from anywhere else: the question is Mumbai, after all.
    parts = ["europe", "europe", "india", "india", "america", "south", "asia"]
    found = []
    for number in range(ROOMS):
        size = dice.one_of((2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8))
        here, there = dice.one_of(parts), dice.one_of(parts)
        spread = number % 4
        if spread == 0:  # one part of the world
            people = [dice.one_of(world.parts[here]) for _ in range(size)]
        elif spread == 1:  # two of them
            people = [dice.one_of(world.parts[(here, there)[i % 2]]) for i in range(size)]
        elif spread == 2:  # one remote
            people = [dice.one_of(world.parts[here]) for _ in range(size - 1)]
            people.append(dice.one_of(everybody))
        else:  # world-wide
            people = [dice.one_of(everybody) for _ in range(size)]
        found.append(dice.shuffled(people))
    return found


def trace(world: World, dice: Dice) -> list[dict[str, object]]:
    events: list[dict[str, object]] = []
    for number, people in enumerate(rooms(world, dice), 1):
        begins = MONDAY_9_UTC + dice.between(0, WINDOW_S)
        lasts = dice.between(600, 3600)
        at = begins
        for name, network in zip(NAMES, people, strict=False):
            who = {"room": f"room-{number:02}", "participant": name}
            events.append(
                {"t": round(at, 1), "op": "join", **who, "client": network,
                 "location": world.believed[network]}
            )  # fmt: skip
            left = at + lasts * dice.between(0.3, 1) if dice.chance(0.1) else begins + lasts
            events.append({"t": round(left + dice.between(0, 20), 1), "op": "leave", **who})
            at += dice.between(2, 60)
    # sorted() keeps the order of equals, and nobody leaves before they came.
    return sorted(events, key=lambda event: float(str(event["t"])))


def topology(ids: Sequence[str]) -> str:
    lines = [
        "# yaml-language-server: $schema=../../regions/schema.json",
        "# Made by make.py. What every key means: regions/demo.yaml.",
        "version: 1",
        "regions:",
    ]
    for id_ in ids:
        title, (lat, lon) = REGIONS[id_]
        lines += [
            f"  {id_}:",
            f"    title: {title}",
            f"    location: {{lat: {lat}, lon: {lon}}}",
            f"    nodes: {NODES}",
        ]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """Return what the folder holds, by name."""
    dice = Dice(2024)
    world = World(dice)
    regions = [f"{a},{b},{rtt:.1f}" for (a, b), rtt in world.regions.items()]
    clients = [
        f"{network},{region},{rtt:.1f}"
        for network, row in world.clients.items()
        for region, rtt in row.items()
    ]
    lines = [json.dumps(event, separators=(",", ":")) for event in trace(world, dice)]
    return {
        "now.yaml": topology([id_ for id_ in REGIONS if id_ != NEW]),
        "mumbai.yaml": topology(list(REGIONS)),
        "regions.csv": "\n".join(["src,dst,rtt_ms", *regions]) + "\n",
        "clients.csv": "\n".join(["client,region,rtt_ms", *clients]) + "\n",
        "monday.jsonl": "\n".join(lines) + "\n",
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
