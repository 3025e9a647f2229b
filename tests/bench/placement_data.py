"""Rooms to place, made of measured round trips: what `tests.bench.placement` replays.

    python -m tests.bench.placement_data --data FOLDER --write DIR

Of each matrix in the data folder (cloud_*.csv, azure_*.csv) 16 sites become regions, spread over the world, in
several choices; the other sites are where people are. Rooms are clustered (neighbours), two sites, one remote, or
world-wide. The place of each person is blurred as address databases were found to blur it.
"""

import argparse
import csv
import itertools
import json
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.core.geo import EARTH_RADIUS_KM, great_circle_km
from controlplane.core.mesh import Pair
from controlplane.core.model import (
    Location,
    ParticipantId,
    Policy,
    Region,
    RegionId,
    RoomId,
    Topology,
)
from controlplane.simulation.inputs import Op, TraceEvent

REGIONS = 16
SPREADS = ("clustered", "two sites", "one remote", "world")
SIZES = (3, 5, 8)
NETWORKS_PER_SITE = 8
"""Networks whose people meet again and again, in the traces that teach the learned table something."""

SECONDS_BETWEEN_JOINS = 5.0
SECONDS_BETWEEN_ROOMS = 60.0

CLUSTER_KM = 4500.0
"""People of a clustered room are in one zone and at most this far from the one it gathers around."""

ZONES = {"NAM": 0.30, "EUR": 0.30, "ASI": 0.25, "SAM": 0.07, "OCE": 0.05, "AFR": 0.03}
"""Where people are."""

DB_IP = ((0.0, 0.5), (0.5, 5), (0.9, 399), (0.95, 677), (0.96, 1000), (1.0, 10_000))
GEOLITE2 = ((0.0, 0.5), (0.5, 20), (0.9, 640), (0.94, 1000), (0.95, 1371), (1.0, 10_000))
"""Error in km by quantile, over 500 hosts of known place; the ends are guesses."""

RADII_KM = (5, 10, 20, 50, 100, 200, 500, 1000)
"""What GeoLite2 answers as accuracy radius."""


@dataclass(frozen=True, slots=True)
class Study:
    """One choice of regions from one matrix."""

    name: str
    topology: Topology
    region_rtt: Mapping[Pair, float]
    sites: Mapping[str, Mapping[RegionId, float]]
    """Where people are → round trips in milliseconds to every region."""
    places: Mapping[str, Location]
    """Where those sites truly are."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who will join."""

    participant: ParticipantId
    client: str
    site: str
    location: Location | None
    """What the address database says."""


@dataclass(frozen=True, slots=True)
class MadeRoom:
    """A room and who joins it, in order."""

    id: RoomId
    spread: str
    people: tuple[Person, ...]


def load_studies(
    data: Path, *, choices: int, seed: int = 1, policy: Policy | None = None
) -> list[Study]:
    """Return `choices` studies from each matrix of the folder. Raises OSError when a file is missing."""
    return [
        _study(name, matrix, _dice(f"{seed}/{name}"), policy or Policy())
        for matrix in (_cloud(data), _azure(data))
        for name in (f"{matrix.name}-{number}" for number in range(1, choices + 1))
    ]


def make_rooms(
    study: Study, *, each: int, blur: str, warm: bool, seed: int = 1,
    sizes: Sequence[int] = SIZES, spreads: Sequence[str] = SPREADS,
) -> list[MadeRoom]:  # fmt: skip
    """Return `each` rooms of every spread and size, shuffled.

    With `warm` people come from a few networks per site; otherwise nobody's network was ever seen before.
    """
    rng = _dice(f"{seed}/{study.name}/{blur}/{warm}")
    kinds = [(spread, size) for spread in spreads for size in sizes for _ in range(each)]
    rng.shuffle(kinds)
    known: dict[str, Location] = {}
    rooms = []
    for number, (spread, size) in enumerate(kinds):
        people = []
        for index, site in enumerate(_sites_of(study, spread, size, rng)):
            client = (
                f"{site}#{rng.randrange(NETWORKS_PER_SITE)}" if warm else f"{site}#{number}.{index}"
            )
            if client not in known:
                known[client] = blurred(study.places[site], blur, rng)
            people.append(Person(ParticipantId(f"p{index}"), client, site, known[client]))
        rng.shuffle(people)
        rooms.append(
            MadeRoom(RoomId(f"{spread.replace(' ', '-')}-{size}-{number}"), spread, tuple(people))
        )
    return rooms


def trace_of(rooms: Iterable[MadeRoom], *, start: float = 0.0) -> Iterator[TraceEvent]:
    """Yield the rooms' joins one after the other, room by room."""
    t = start
    for room in rooms:
        for person in room.people:
            yield TraceEvent(
                t, Op.JOIN, room.id, person.participant, person.client, person.location
            )
            t += SECONDS_BETWEEN_JOINS
        t += SECONDS_BETWEEN_ROOMS


def client_rtts(study: Study, rooms: Iterable[MadeRoom]) -> dict[str, Mapping[RegionId, float]]:
    """Return the true round trips of everybody in the rooms, by client."""
    return {person.client: study.sites[person.site] for room in rooms for person in room.people}


# --- the matrices -------------------------------------------------------------------------------

Rtt = Callable[[str, str], float | None]


@dataclass(frozen=True, slots=True)
class Matrix:
    """One set of measurements."""

    name: str
    places: Mapping[str, Location]
    titles: Mapping[str, str]
    rtts: Mapping[tuple[str, str], float]


def _dice(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a benchmark repeats itself


def _cloud(data: Path) -> Matrix:
    return _matrix("cloud", data, "cloud_sites.csv", ("site", "city"), ("cloud_rtt.csv", "min_ms"))


def _azure(data: Path) -> Matrix:
    return _matrix(
        "azure", data, "azure_regions.csv", ("region", "name"), ("azure_rtt.csv", "p50_ms")
    )


def _matrix(
    name: str, data: Path, sites: str, columns: tuple[str, str], measured: tuple[str, str]
) -> Matrix:
    rows = _rows(data / sites)
    id_, title = columns
    file, column = measured
    return Matrix(
        name,
        {row[id_]: Location(float(row["lat"]), float(row["lon"])) for row in rows},
        {row[id_]: row[title] for row in rows},
        {(row["src"], row["dst"]): float(row[column]) for row in _rows(data / file)},
    )


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _study(name: str, matrix: Matrix, rng: random.Random, policy: Policy) -> Study:
    places, rtts = matrix.places, matrix.rtts

    def rtt(a: str, b: str) -> float | None:
        # A round trip is the same from both ends. Where two measurements differ the smaller one is at fault: a hundred
        # of those that were made from Google's machines are faster than light, and none of the other direction.
        found = [rtts[pair] for pair in ((a, b), (b, a)) if pair in rtts]
        return max(found) if found else None

    chosen = _spread_out(places, rtt, rng)
    ids = {site: RegionId(site.replace(":", "-")) for site in chosen}
    regions = {
        ids[site]: Region(
            ids[site], matrix.titles[site], places[site], desired_nodes=3, node_capacity=100_000
        )
        for site in chosen
    }
    region_rtt = {(ids[a], ids[b]): rtt(a, b) for a in chosen for b in chosen if a != b}
    sites = {
        site: {ids[region]: rtt(site, region) for region in chosen}
        for site in sorted(places)
        if site not in chosen
    }
    complete = {
        site: {region: found for region, found in row.items() if found is not None}
        for site, row in sites.items()
        if None not in row.values()
    }
    return Study(
        name,
        Topology(regions, policy=policy),
        {pair: found for pair, found in region_rtt.items() if found is not None},
        complete,
        {site: places[site] for site in complete},
    )


def _spread_out(places: Mapping[str, Location], rtt: Rtt, rng: random.Random) -> list[str]:
    """Return sites with a round trip to each other, each the farthest from the others of five taken by chance."""
    chosen: list[str] = []
    while len(chosen) < REGIONS:
        left = [
            site
            for site in sorted(places)
            if site not in chosen
            and all(rtt(site, other) is not None for other in chosen)
            # Among Google's own machines both directions may be at fault: they are clients only.
            and not site.startswith("gcp:")
            and any(rtt(site, other) is not None for other in places if other != site)
        ]
        some = rng.sample(left, min(5 if chosen else 1, len(left)))
        far = {
            site: min(
                (great_circle_km(places[site], places[other]) for other in chosen), default=0.0
            )
            for site in some
        }
        chosen.append(max(some, key=far.__getitem__))
    return chosen


# --- rooms --------------------------------------------------------------------------------------


def zone(place: Location) -> str:
    """Return the part of the world that a place is in, roughly."""
    lat, lon = place.lat, place.lon
    if lon < -30:
        return "NAM" if lat > 13 else "SAM"
    if lat >= 35 and lon < 45:
        return "EUR"
    if lon < 33 or (lat < 12 and lon < 55):
        return "AFR"
    return "OCE" if lat < -11 and lon > 110 else "ASI"


def _sites_of(study: Study, spread: str, size: int, rng: random.Random) -> list[str]:
    zones: dict[str, list[str]] = {}
    for site, place in study.places.items():
        zones.setdefault(zone(place), []).append(site)

    def anywhere(but: str = "") -> str:
        names = [name for name in zones if name != but]
        picked = rng.choices(names, [ZONES[name] for name in names])[0]
        return rng.choice(zones[picked])

    anchor = anywhere()
    here = zone(study.places[anchor])
    around = [site for site in zones[here] if _apart(study, anchor, site) <= CLUSTER_KM]
    if spread == "clustered":
        return [anchor, *rng.choices(around, k=size - 1)]
    if spread == "one remote":
        return [anchor, *rng.choices(around, k=size - 2), anywhere(but=here)]
    if spread == "two sites":
        other = anywhere(but=here)
        return [anchor] * ((size + 1) // 2) + [other] * (size // 2)
    return [anywhere() for _ in range(size)]


def _apart(study: Study, a: str, b: str) -> float:
    return great_circle_km(study.places[a], study.places[b])


def blurred(place: Location, blur: str, rng: random.Random) -> Location:
    """Return the place as an address database ("dbip", "geolite2") would answer it, or "exact"."""
    if blur == "exact":
        return place
    error = _quantile(DB_IP if blur == "dbip" else GEOLITE2, rng.random())
    moved = _moved(place, error, rng.uniform(0, 2 * math.pi))
    if blur == "dbip":
        return moved
    # The stated radius grows with the error but is no bound: it holds 51 to 85 % of the truths.
    wanted = 45 * (error / 20) ** 0.55 * math.exp(rng.gauss(0, 1.0))
    radius = min(RADII_KM, key=lambda step: abs(math.log(step / wanted)))
    return Location(moved.lat, moved.lon, float(radius))


def _quantile(table: Sequence[tuple[float, float]], u: float) -> float:
    for (low, a), (high, b) in itertools.pairwise(table):
        if u <= high:
            share = (u - low) / (high - low)
            return math.exp(math.log(a) + share * (math.log(b) - math.log(a)))
    return table[-1][1]


def _moved(place: Location, km: float, bearing: float) -> Location:
    angle, lat = km / EARTH_RADIUS_KM, math.radians(place.lat)
    to_lat = math.asin(
        math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(bearing)
    )
    to_lon = math.radians(place.lon) + math.atan2(
        math.sin(bearing) * math.sin(angle) * math.cos(lat),
        math.cos(angle) - math.sin(lat) * math.sin(to_lat),
    )
    return Location(math.degrees(to_lat), (math.degrees(to_lon) + 540) % 360 - 180)


# --- files --------------------------------------------------------------------------------------


def write_files(study: Study, rooms: Sequence[MadeRoom], folder: Path) -> None:
    """Write what `thalweg simulate` reads: topology.yaml, region-rtt.csv, client-rtt.csv, trace.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["version: 1", "regions:"]
    for id_, region in study.topology.regions.items():
        where = region.location
        lines.append(f"  {id_}:")
        lines.append(f"    title: {json.dumps(region.title)}")
        lines.append(f"    location: {{lat: {where.lat}, lon: {where.lon}}}")
        lines.append(
            f"    nodes: {{desired: {region.desired_nodes}, capacity: {region.node_capacity}}}"
        )
    (folder / "topology.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (folder / "region-rtt.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("src", "dst", "rtt_ms"))
        writer.writerows((a, b, rtt) for (a, b), rtt in study.region_rtt.items())
    with (folder / "client-rtt.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("client", "region", "rtt_ms"))
        for client, rtts in client_rtts(study, rooms).items():
            writer.writerows((client, region, rtt) for region, rtt in rtts.items())
    with (folder / "trace.jsonl").open("w", encoding="utf-8") as stream:
        for event in trace_of(rooms):
            stream.write(json.dumps(_line(event)) + "\n")


def _line(event: TraceEvent) -> dict[str, object]:
    at = event.location
    place = None if at is None else {"lat": round(at.lat, 4), "lon": round(at.lon, 4)}
    if at is not None and place is not None and at.radius_km is not None:
        place["radius_km"] = at.radius_km
    return {
        "t": event.t, "op": event.op.value, "room": event.room, "participant": event.participant,
        "client": event.client, "location": place,
    }  # fmt: skip


def main() -> None:
    """Write one study's files."""
    parser = argparse.ArgumentParser(description="Write a study for `thalweg simulate`.")
    parser.add_argument("--data", type=Path, default=os.environ.get("THALWEG_DATA"))
    parser.add_argument("--write", type=Path, required=True, metavar="DIR")
    parser.add_argument("--study", default="cloud-1", help="cloud-1, azure-1, …")
    parser.add_argument("--each", type=int, default=10, help="rooms of each spread and size")
    parser.add_argument("--blur", choices=("exact", "dbip", "geolite2"), default="dbip")
    parser.add_argument("--warm", action="store_true", help="people of networks that come again")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("--data or THALWEG_DATA must name the folder with cloud_*.csv and azure_*.csv")
    number = int(asked.study.rpartition("-")[2])
    studies = {one.name: one for one in load_studies(asked.data, choices=number, seed=asked.seed)}
    study = studies[asked.study]
    rooms = make_rooms(study, each=asked.each, blur=asked.blur, warm=asked.warm, seed=asked.seed)
    write_files(study, rooms, asked.write)


if __name__ == "__main__":
    main()
