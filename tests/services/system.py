"""All services on a store in memory and a clock turned by hand, with nodes that a test speaks for."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from controlplane.core.model import (
    Event,
    Join,
    Location,
    NodeId,
    ParticipantId,
    Policy,
    RegionId,
    Requirements,
    Role,
    RoomId,
    Topology,
    TurnServer,
)
from controlplane.core.session import (
    NO_FIGURES,
    Endpoint,
    LinkFigures,
    LinkReport,
    NodeHello,
    NodeReport,
    ParticipantReport,
    PeerRtt,
)
from controlplane.errors import InvalidInputError
from controlplane.services.answers import Joined
from controlplane.services.cascade import Cascades
from controlplane.services.changed_rooms import ChangedRooms
from controlplane.services.duties import Duties
from controlplane.services.fleet import Fleet, NodeSession
from controlplane.services.following import Following
from controlplane.services.joins import Joins
from controlplane.services.judging import Judge
from controlplane.services.moving import Mover
from controlplane.services.node_states import NodeStates
from controlplane.services.placements import Placements
from controlplane.services.ports import TurnKeeper
from controlplane.services.presence import Presence
from controlplane.services.rehoming import Rehoming, RehomingCounters
from controlplane.services.rooms import Rooms
from controlplane.services.session_rtts import SessionRtts
from controlplane.services.snapshots import Snapshots
from controlplane.services.topologies import Topologies, TopologyParser
from controlplane.services.tracking import Tracking
from controlplane.services.turn_servers import TurnServers
from controlplane.services.world import MeshRtts, Worlds
from controlplane.store.base import Store
from controlplane.store.memory import MemoryStore
from tests.core.build import CITIES, topology
from tests.fakes.clock import FakeClock
from tests.fakes.geo import FakeGeo

ROOM = RoomId("standup")
SWEEP_S = 0.25
REPORT_S = 0.5

PROBES: Mapping[str, Mapping[str, float]] = {
    "paris": {"eu-paris": 4, "eu-frankfurt": 13, "us-virginia": 86},
    "frankfurt": {"eu-frankfurt": 5, "us-virginia": 92, "ap-singapore": 165},
    "virginia": {"eu-frankfurt": 91, "us-virginia": 4, "ap-singapore": 224},
    "singapore": {"eu-frankfurt": 164, "us-virginia": 223, "ap-singapore": 6},
}


def parse(text: str) -> Topology:
    """A parser for tests: region ids between blanks; "~" behind one gives it TURN servers; key=value is a policy."""
    words = text.split()
    names = [word for word in words if "=" not in word]
    policy = Policy(
        **{key: int(value) for key, _, value in (w.partition("=") for w in words) if value}
    )
    unknown = [name for name in names if name.rstrip("~") not in CITIES]
    if unknown or not names:
        raise InvalidInputError("topology-invalid", f"topology.yaml:1:1: {unknown} is unknown")
    parsed = topology(*(name.rstrip("~") for name in names), policy=policy)
    regions = dict(parsed.regions)
    for name in names:
        if name.endswith("~"):
            id_ = RegionId(name.rstrip("~"))
            servers = (TurnServer(f"turn.{id_}.test"),)
            regions[id_] = replace(regions[id_], turn_servers=servers)
    return replace(parsed, regions=regions)


class PlainSigner:
    """Satisfies the TokenSigner port; remembers the claims instead of signing them."""

    def __init__(self) -> None:
        self.signed: list[Mapping[str, object]] = []

    def sign(self, claims: Mapping[str, object]) -> str:
        self.signed.append(claims)
        return f"token-{len(self.signed)}"

    def public_keys(self) -> Mapping[str, bytes]:
        return {"k1": bytes(32)}


class Count:
    """Satisfies the Counter port."""

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount


class Level:
    """Satisfies the Gauge port."""

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value


class Wakes:
    """Satisfies the FleetNotifier port; remembers who was woken."""

    def __init__(self) -> None:
        self.woken: list[frozenset[NodeId]] = []

    def wake(self, nodes: frozenset[NodeId]) -> None:
        self.woken.append(nodes)

    def take(self) -> set[NodeId]:
        woken = {node for nodes in self.woken for node in nodes}
        self.woken.clear()
        return woken


@dataclass
class FakeNode:
    """What a test makes a node say."""

    id: NodeId
    region: RegionId
    session: NodeSession
    here: dict[tuple[RoomId, ParticipantId], int] = field(default_factory=dict)
    """Sessions by participant, with the epoch of the token they came with."""
    measured: dict[tuple[RoomId, ParticipantId], float] = field(default_factory=dict)
    """Round trips that it measures in the calls, in milliseconds."""
    links: tuple[LinkReport, ...] = ()
    link_figures: LinkFigures = NO_FIGURES
    rtts: tuple[PeerRtt, ...] = ()
    alive: bool = True
    sequence: int = 0


class System:
    """Everything that app.py would plug together."""

    def __init__(
        self,
        *,
        turn: TurnKeeper | None = None,
        store: Store | None = None,
        parser: TopologyParser = parse,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.geo = FakeGeo()
        self.signer = PlainSigner()
        self.wakes = Wakes()
        self.store: Store = store or MemoryStore()
        self.mesh = MeshRtts()
        self.placements = Placements()
        self.topologies = Topologies(self.store, parser, self.clock)
        self.worlds = Worlds(self.store, self.topologies, self.mesh, self.placements)
        self.duties = Duties(self.store)
        self.cascades = Cascades(self.store, self.worlds, self.wakes, self.duties, self.clock)
        self.dropped, self.looked_at, self.rehomed = Count(), Count(), Count()
        self.changed = ChangedRooms(self.dropped, self.duties.is_mine)
        self.rooms = Rooms(self.store, self.worlds, self.clock)
        self.joins = Joins(
            store=self.store,
            worlds=self.worlds,
            cascades=self.cascades,
            placements=self.placements,
            changed=self.changed,
            clock=self.clock,
            geo=self.geo,
            signer=self.signer,
            turn=turn,
        )
        self.presence = Presence(self.store, self.cascades, self.placements, self.changed)
        self.session_rtts = SessionRtts(self.store)
        self.mover = Mover(
            self.store, self.worlds, self.cascades, self.placements, self.changed, self.clock
        )
        self.snapshots = Snapshots(
            self.store,
            self.cascades,
            self.signer,
            self.duties,
            TurnServers(self.topologies, turn) if turn else None,
        )
        self.tracking = Tracking()
        self.states = NodeStates(self.store, self.tracking, self.clock)
        self.fleet = Fleet(
            store=self.store,
            topologies=self.topologies,
            placements=self.placements,
            presence=self.presence,
            session_rtts=self.session_rtts,
            mover=self.mover,
            snapshots=self.snapshots,
            tracking=self.tracking,
            states=self.states,
            duties=self.duties,
            notifier=self.wakes,
            clock=self.clock,
        )
        self.frozen = Level()
        self.judge = Judge(
            store=self.store,
            topologies=self.topologies,
            cascades=self.cascades,
            presence=self.presence,
            session_rtts=self.session_rtts,
            mover=self.mover,
            snapshots=self.snapshots,
            tracking=self.tracking,
            states=self.states,
            duties=self.duties,
            frozen=self.frozen,
            clock=self.clock,
        )
        self.following = Following(
            store=self.store,
            duties=self.duties,
            cascades=self.cascades,
            placements=self.placements,
            changed=self.changed,
            clock=self.clock,
        )
        self.rehoming = Rehoming(
            store=self.store,
            worlds=self.worlds,
            cascades=self.cascades,
            placements=self.placements,
            changed=self.changed,
            counters=RehomingCounters(self.looked_at, self.rehomed),
            duties=self.duties,
            is_frozen=lambda: self.judge.frozen_why is not None,
            clock=self.clock,
        )
        self.nodes: dict[str, FakeNode] = {}

    # --- nodes ------------------------------------------------------------------------------------

    async def connect(
        self, node: str, region: str, *, capacity: int = 100, kept: int = 0
    ) -> FakeNode:
        """Open a session for a node; what it had before is gone, as after a restart."""
        hello = NodeHello(
            node=NodeId(node),
            region=RegionId(region),
            http_url=f"http://{node}.test/",
            media=Endpoint("192.0.2.1", 10000),
            trunk_target=f"{node}.test:7443",
            capacity=capacity,
            version="0",
            engine="embedded",
            kept_snapshot=kept,
        )
        session = await self.fleet.open(hello)
        self.nodes[node] = FakeNode(NodeId(node), RegionId(region), session)
        return self.nodes[node]

    async def serving(self, node: str, region: str, *, capacity: int = 100) -> FakeNode:
        """Open a session and report once."""
        made = await self.connect(node, region, capacity=capacity)
        await self.report(made)
        return made

    async def report(self, node: FakeNode) -> None:
        node.sequence += 1
        capacity = (await self.fleet.node(node.id)).node.capacity
        people = tuple(ParticipantReport(*key, epoch) for key, epoch in node.here.items())
        load = len(people) / capacity
        measured = [node.measured.get(key, 0.0) for key in node.here]
        report = NodeReport(
            node.sequence, load, people, node.links, node.rtts, measured, node.link_figures
        )
        await self.fleet.report(node.session, report)

    async def kill(self, node: FakeNode) -> None:
        """The process dies: its stream ends."""
        node.alive = False
        await self.fleet.closed(node.session)

    async def run(self, seconds: float) -> None:
        """Let time pass: nodes that live report twice a second, everything is swept four times a second."""
        for tick in range(1, round(seconds / SWEEP_S) + 1):
            self.clock.advance(SWEEP_S)
            for node in list(self.nodes.values()):
                if node.alive and tick % round(REPORT_S / SWEEP_S) == 0:
                    await self.report(node)
            await self.sweep()

    async def sweep(self) -> None:
        """What app.py calls four times a second."""
        await self.judge.sweep()
        await self.following.catch_up()
        await self.cascades.sweep()
        await self.rehoming.sweep()

    # --- people -----------------------------------------------------------------------------------

    async def join(self, who: str, place: str | None = None, session: str = "s1") -> Joined:
        """Join somebody who measured from a place."""
        return await self.joins.join(a_join(who, place, session=session))

    def arrive(self, joined: Joined, *, at: str | None = None) -> None:
        """The client uses its token: the node has a session from now on."""
        one = joined.assignment
        self.nodes[at or one.node].here[one.room, one.participant] = one.epoch

    async def events(self, type_: str | None = None) -> list[Event]:
        """Return all events so far."""
        last = await self.store.last_event_id()
        found: list[Event] = []
        async with asyncio.timeout(2):
            async for one in self.store.events(after="0"):
                found.append(one)
                if one.id == last:
                    break
        return [one for one in found if type_ in (None, one.type)]


def a_join(
    who: str,
    place: str | None = None,
    *,
    session: str = "s1",
    role: Role = Role.PUBLISHER,
    room: RoomId = ROOM,
    client_ip: str | None = None,
    residency: Iterable[str] = (),
    regions: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> Join:
    probes = PROBES[place] if place else {}
    return Join(
        room=room,
        participant=ParticipantId(who),
        session=session,
        client_ip=client_ip,
        probes={RegionId(id_): (rtt,) for id_, rtt in probes.items()},
        role=role,
        require=Requirements(frozenset(residency), frozenset(map(RegionId, regions))),
        exclude_nodes=frozenset(map(NodeId, exclude)),
    )


async def three_regions(*, turn: TurnKeeper | None = None) -> System:
    """One serving node in each of Frankfurt, Virginia and Singapore."""
    system = System(turn=turn)
    await system.topologies.load("eu-frankfurt~ us-virginia ap-singapore")
    await system.serving("fra-1", "eu-frankfurt")
    await system.serving("vir-1", "us-virginia")
    await system.serving("sin-1", "ap-singapore")
    system.wakes.take()
    return system


SAMPLE_PLACE = Location(50.0, 8.27, 20)
