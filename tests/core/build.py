"""Small worlds for tests: five real cities, nodes and people with only what matters spelled out."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar

from controlplane.core.load import reported_load
from controlplane.core.mesh import region_matrix
from controlplane.core.model import (
    Assignment,
    Candidate,
    Decision,
    Join,
    LinkSeed,
    Location,
    Node,
    NodeId,
    NodeState,
    ParticipantId,
    Policy,
    Region,
    RegionId,
    Requirements,
    Role,
    Room,
    RoomId,
    RttEstimate,
    RttSource,
    Topology,
)
from controlplane.core.rtt import Estimates
from controlplane.core.sums import Sums, sum_up
from controlplane.core.world import World

K = TypeVar("K")
V = TypeVar("V")

NOW = 1_790_000_000.0
ROOM = RoomId("standup")

CITIES = {
    "eu-frankfurt": ("Frankfurt", 50.11, 8.68, {"eu", "gdpr"}),
    "eu-paris": ("Paris", 48.86, 2.35, {"eu", "gdpr"}),
    "us-virginia": ("Virginia", 39.04, -77.49, {"us"}),
    "ap-singapore": ("Singapore", 1.35, 103.82, set[str]()),
    "ap-sydney": ("Sydney", -33.87, 151.21, set[str]()),
}
DECLARED = {
    ("eu-frankfurt", "eu-paris"): 10.0,
    ("eu-frankfurt", "us-virginia"): 90.0,
    ("eu-frankfurt", "ap-singapore"): 160.0,
    ("us-virginia", "ap-singapore"): 220.0,
    ("ap-singapore", "ap-sydney"): 92.0,
}


def region(id_: str) -> RegionId:
    return RegionId(id_)


def topology(*ids: str, policy: Policy | None = None) -> Topology:
    """The declared round trips among these cities, all five without arguments."""
    wanted = ids or tuple(CITIES)
    regions = {
        RegionId(id_): Region(RegionId(id_), title, Location(lat, lon), frozenset(tags))
        for id_, (title, lat, lon, tags) in CITIES.items()
        if id_ in wanted
    }
    links = tuple(
        LinkSeed((RegionId(a), RegionId(b)), rtt)
        for (a, b), rtt in DECLARED.items()
        if a in regions and b in regions
    )
    return Topology(regions, links, policy=policy or Policy())


def node(
    id_: str,
    in_region: str,
    *,
    state: NodeState = NodeState.SERVING,
    load: float = 0.0,
    capacity: int = 100,
    heard_at: float = NOW,
    why: str = "",
) -> Node:
    return Node(
        id=NodeId(id_),
        region=RegionId(in_region),
        http_url=f"http://{id_}.test",
        media_host="192.0.2.1",
        media_port=10000,
        trunk_target=f"{id_}.test:7443",
        capacity=capacity,
        engine="embedded",
        version="0",
        state=state,
        heard_at=heard_at,
        registered_at=NOW - 100,
        load=reported_load(load, round(load * capacity), capacity),
        participants=round(load * capacity),
        why=why,
    )


def world(
    nodes: Iterable[Node],
    declared: Topology | None = None,
    *,
    placed: Mapping[str, int] | Mapping[NodeId, int] | None = None,
) -> World:
    declared = declared or topology()
    return World(
        declared,
        {one.id: one for one in nodes},
        region_matrix(declared, {}),
        {NodeId(id_): count for id_, count in (placed or {}).items()},
    )


def one_node_each(declared: Topology | None = None) -> World:
    declared = declared or topology()
    return world([node(f"{id_}-1", id_) for id_ in declared.regions], declared)


def rtts(
    values: Mapping[str, float], source: RttSource = RttSource.PROBE, *, spread_ms: float = 1.0
) -> Estimates:
    return Estimates(
        {RegionId(id_): RttEstimate(value, spread_ms, source) for id_, value in values.items()}
    )


def join(
    who: str = "ana",
    *,
    role: Role = Role.PUBLISHER,
    residency: Iterable[str] = (),
    regions: Iterable[str] = (),
    exclude: Iterable[str] = (),
    session: str = "s1",
) -> Join:
    return Join(
        room=ROOM,
        participant=ParticipantId(who),
        session=session,
        role=role,
        require=Requirements(frozenset(residency), frozenset(map(RegionId, regions))),
        exclude_nodes=frozenset(map(NodeId, exclude)),
    )


def seat(
    who: str,
    on: Node,
    rtt_ms: float = 10.0,
    *,
    role: Role = Role.PUBLISHER,
    expires_at: float = NOW + 60,
    known: Estimates | None = None,
    require: Requirements | None = None,
) -> Assignment:
    """Somebody who sits on a node; `known` are the round trips to all regions, if more than `rtt_ms` matters."""
    estimate = RttEstimate(rtt_ms, 1.0, RttSource.PROBE)
    return Assignment(
        room=ROOM,
        participant=ParticipantId(who),
        session=f"session-of-{who}",
        role=role,
        node=on.id,
        region=on.region,
        epoch=1,
        assigned_at=NOW,
        expires_at=expires_at,
        decision=Decision(
            on.id,
            on.region,
            ("a test put it there",),
            (Candidate(on.region, on.id, estimate, 0.0, {}),),
            (),
            NOW,
        ),
        rtts=known.rtts if known else {on.region: estimate},
        require=require or Requirements(),
    )


def sums(*people: Assignment) -> Sums:
    return sum_up(people)


def room(*people: Assignment) -> Room:
    return Room(ROOM, {one.participant: one for one in people})


def with_node(view: World, changed: Node) -> World:
    return replace(view, nodes={**view.nodes, changed.id: changed})


def turned(mapping: Mapping[K, V], dice: Random) -> dict[K, V]:
    """The same in another order."""
    items = list(mapping.items())
    dice.shuffle(items)
    return dict(items)


def shuffled(view: World, dice: Random) -> World:
    """The same world with everything in another order."""
    declared = replace(
        view.topology,
        regions=turned(view.topology.regions, dice),
        links=tuple(dice.sample(view.topology.links, len(view.topology.links))),
    )
    return World(
        declared,
        turned(view.nodes, dice),
        turned(view.region_rtt, dice),
        turned(view.placed, dice),
    )
