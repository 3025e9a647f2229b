"""What deciding one join costs, in a small room and in a large one: 16 regions of 12 nodes."""

import random
from functools import partial

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
    World,
)
from controlplane.core.place import NOWHERE
from controlplane.core.rtt import estimate
from tests.bench.turns import medians

REGIONS, NODES_EACH, JOINS = 16, 12, 20
NOW = 1000.0


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
        rtts = {region: RttEstimate(rng.uniform(2, 40), 1.0, RttSource.PROBE)}
        assignments[who] = Assignment(
            RoomId("room"), who, "s", Role.PUBLISHER, node, region, 1, NOW, NOW + 60, decision, rtts
        )
    return Room(RoomId("room"), assignments)


def report() -> str:
    """Return the figures in a line."""
    rng = random.Random(7)  # noqa: S311 - a benchmark repeats itself
    world = _world(rng)
    rooms = {f"room of {size}": _room(world, size, rng) for size in (8, 5000)}
    names = sorted(world.topology.regions)

    def joins(room: Room) -> None:
        for index in range(JOINS):
            probes = {names[index % REGIONS]: (12.0,), names[(index + 3) % REGIONS]: (30.0,)}
            join = Join(RoomId("room"), ParticipantId("newcomer"), "s", probes=probes)
            estimates = estimate(probes, NOWHERE, world.topology, world.region_rtt)
            assert isinstance(allocate(join, room, world, estimates, now=NOW), Decision)

    cost = medians({name: partial(joins, room) for name, room in rooms.items()}, per_round=JOINS)
    small, large = cost["room of 8"], cost["room of 5000"]
    return (
        f"deciding a join among {REGIONS * NODES_EACH} nodes: {small:.0f} µs in a room of 8, "
        f"{large:.0f} µs in a room of 5000, ratio {large / small:.1f}"
    )
