"""What deciding costs among 16 regions of 12 nodes: a join in small and large rooms, a probe plan, a re-plan."""

import asyncio
import random
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from controlplane.core.allocate import allocate
from controlplane.core.model import (
    Assignment,
    Decision,
    Join,
    Location,
    Node,
    NodeId,
    NodeState,
    ParticipantId,
    Region,
    RegionId,
    Role,
    Room,
    RoomId,
    RttEstimate,
    RttSource,
    Topology,
)
from controlplane.core.place import Place
from controlplane.core.probes import plan_probes
from controlplane.core.rehome import improve
from controlplane.core.rtt import estimate
from controlplane.core.sums import Sums, sum_up
from controlplane.core.world import World
from tests.bench.turns import medians
from tests.bench.whole_join import whole_joins

REGIONS, NODES_EACH, TURNS = 16, 12, 20
NOW = 1000.0
ROOM = RoomId("room")


def _world(rng: random.Random) -> World:
    regions = {
        RegionId(f"r{n}"): Region(
            RegionId(f"r{n}"), f"Region {n}", Location(rng.uniform(-60, 60), rng.uniform(-180, 180))
        )
        for n in range(REGIONS)
    }
    nodes = {}
    for region in regions:
        for index in range(NODES_EACH):
            node = NodeId(f"{region}-{index}")
            nodes[node] = Node(
                node, region, "http://127.0.0.1", "127.0.0.1", 1, "127.0.0.1:1", 100_000, "embedded",
                "0", NodeState.SERVING, NOW, NOW, load=rng.random() / 2,
            )  # fmt: skip
    names = sorted(regions)
    rtts = {(a, b): 0.0 if a == b else 10 + 10.0 * abs(i - j)
            for i, a in enumerate(names) for j, b in enumerate(names)}  # fmt: skip
    return World(Topology(regions), nodes, rtts)


def _room(world: World, size: int, rng: random.Random) -> Room:
    decision = Decision(NodeId(""), RegionId(""), (), (), (), NOW)
    assignments = {}
    for index in range(size):
        who = ParticipantId(f"p{index}")
        node = rng.choice(sorted(world.nodes))
        region = world.nodes[node].region
        rtts: Mapping[RegionId, RttEstimate] = MappingProxyType(
            {
                region: RttEstimate(rng.uniform(2, 250), rng.uniform(1, 20), RttSource.PROBE)
                for region in world.topology.regions
            }
        )
        assignments[who] = Assignment(
            ROOM, who, "s", Role.PUBLISHER, node, region, 1, NOW - 90, NOW + 60, decision, rtts
        )
    return Room(ROOM, assignments)


def report() -> str:
    """Return the figures, a line each."""
    rng = random.Random(7)  # noqa: S311 - a benchmark repeats itself
    world = _world(rng)
    names = sorted(world.topology.regions)
    place = Place(Location(50.1, 8.7, 50.0), "geo")
    rooms = {size: _room(world, size, rng) for size in (8, 30, 5000)}
    sums = {size: sum_up(room.assignments.values()) for size, room in rooms.items()}

    requests = [
        Join(
            ROOM,
            ParticipantId("newcomer"),
            "s",
            probes={
                names[index % REGIONS]: (212.0, 213.0),
                names[(index + 3) % REGIONS]: (230.0, 231.0),
                names[(index + 5) % REGIONS]: (240.0, 242.0),
            },
        )
        for index in range(TURNS)
    ]

    def joins(others: Sums) -> None:
        for join in requests:
            estimates = estimate(join.probes, place, world.topology, world.region_rtt)
            assert isinstance(allocate(join, others, world, estimates, now=NOW), Decision)

    def plans() -> None:
        for _ in range(TURNS):
            assert plan_probes(place, world, others=sums[8], now=NOW).first

    def replans(room: Room) -> None:
        for _ in range(TURNS):
            improve(room, world, now=NOW, budget=100)

    with asyncio.Runner() as runner:
        whole = {
            f"whole {size}": whole_joins(runner, world, rooms[size].assignments.values(), requests)
            for size in (8, 5000)
        }
        cost = medians(
            {
                "8": partial(joins, sums[8]),
                "5000": partial(joins, sums[5000]),
                "plan": plans,
                "replan 8": partial(replans, rooms[8]),
                "replan 30": partial(replans, rooms[30]),
                **whole,
            },
            per_round=TURNS,
        )
    nodes = REGIONS * NODES_EACH
    return (
        f"deciding a join among {nodes} nodes (goal 300 µs): {cost['8']:.0f} µs in a room of 8, "
        f"{cost['5000']:.0f} µs in a room of 5000, ratio {cost['5000'] / cost['8']:.2f}\n"
        f"a whole join and its leave through the services: {cost['whole 8']:.0f} µs in a room of 8, "
        f"{cost['whole 5000']:.0f} µs in a room of 5000\n"
        f"planning its probes: {cost['plan']:.0f} µs\n"
        f"planning a whole room anew: {cost['replan 8'] / 1000:.2f} ms for 8 people, "
        f"{cost['replan 30'] / 1000:.2f} ms for 30 (goal 10 ms)"
    )
