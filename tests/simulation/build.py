"""A small world to simulate: five real cities, people in some more, round trips by distance."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from controlplane.core.geo import great_circle_km
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

CITIES = {
    "frankfurt": Location(50.11, 8.68),
    "virginia": Location(38.95, -77.45),
    "singapore": Location(1.35, 103.82),
    "sydney": Location(-33.87, 151.21),
    "saopaulo": Location(-23.55, -46.63),
}
PEOPLE = {
    "berlin": Location(52.52, 13.40),
    "paris": Location(48.86, 2.35),
    "london": Location(51.51, -0.13),
    "newyork": Location(40.71, -74.01),
    "chicago": Location(41.88, -87.63),
    "tokyo": Location(35.68, 139.69),
    "mumbai": Location(19.08, 72.88),
    "auckland": Location(-36.85, 174.76),
    "lima": Location(-12.05, -77.04),
}


def rtt_ms(a: Location, b: Location) -> float:
    """What the Internet of this world needs: fibre with detours."""
    return 2.0 + 0.0165 * great_circle_km(a, b)


def topology(
    *ids: str, nodes: int = 1, capacity: int = 400, policy: Policy | None = None
) -> Topology:
    regions = {
        RegionId(id_): Region(
            RegionId(id_), id_.title(), CITIES[id_], desired_nodes=nodes, node_capacity=capacity
        )
        for id_ in ids or CITIES
    }
    return Topology(regions, policy=policy or Policy())


def region_rtts() -> dict[Pair, float]:
    return {
        (RegionId(a), RegionId(b)): rtt_ms(CITIES[a], CITIES[b])
        for a in CITIES
        for b in CITIES
        if a != b
    }


def client_rtts() -> dict[str, Mapping[RegionId, float]]:
    return {
        who: {RegionId(id_): rtt_ms(place, at) for id_, at in CITIES.items()}
        for who, place in PEOPLE.items()
    }


def join(t: float, room: str, who: str, client: str, *, located: bool = True) -> TraceEvent:
    place = PEOPLE.get(client) if located else None
    return TraceEvent(t, Op.JOIN, RoomId(room), ParticipantId(who), client, place)


def leave(t: float, room: str, who: str) -> TraceEvent:
    return TraceEvent(t, Op.LEAVE, RoomId(room), ParticipantId(who))


def calls(rooms: int, size: int, *, stay: bool = False) -> list[TraceEvent]:
    """Rooms one after the other; everybody comes from the next city, and leaves in the end."""
    names = sorted(PEOPLE)
    events, t = [], 0.0
    for number in range(rooms):
        room = f"room-{number}"
        for index in range(size):
            client = names[(number + index * (1 + number % 3)) % len(names)]
            events.append(join(t, room, f"p{index}", client))
            t += 4.0
        if not stay:
            events += [leave(t + index, room, f"p{index}") for index in range(size)]
        t += size
    return events


def line(event: TraceEvent) -> str:
    """Return the event as a trace has it."""
    told: dict[str, object] = {
        "t": event.t, "op": event.op.value, "room": event.room, "participant": event.participant,
    }  # fmt: skip
    if event.op is Op.JOIN:
        at = event.location
        told |= {"client": event.client, "location": at and {"lat": at.lat, "lon": at.lon}}
    return json.dumps(told)


def write(folder: Path, events: Iterable[TraceEvent], ids: Sequence[str] = ()) -> Path:
    """Write what the command reads; returns the folder."""
    regions = ids or sorted(CITIES)
    yaml = ["version: 1", "regions:"]
    for id_ in regions:
        where = CITIES[id_]
        yaml.append(
            f"  {id_}: {{title: {id_.title()}, location: {{lat: {where.lat}, lon: {where.lon}}}}}"
        )
    (folder / "topology.yaml").write_text("\n".join(yaml) + "\n")
    rows = [f"{a},{b},{rtt}" for (a, b), rtt in region_rtts().items()]
    (folder / "regions.csv").write_text("\n".join(["src,dst,rtt_ms", *rows]) + "\n")
    rows = [f"{c},{r},{rtt}" for c, row in client_rtts().items() for r, rtt in row.items()]
    (folder / "clients.csv").write_text("\n".join(["client,region,rtt_ms", *rows]) + "\n")
    (folder / "trace.jsonl").write_text("".join(line(event) + "\n" for event in events))
    return folder
