"""Model nodes: sessions of a fleet in one process, over real gRPC and mTLS, each with people who measure and move."""

import asyncio
import json
import random
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import grpc
from thalweg.v1 import common_pb2, node_pb2, node_pb2_grpc

from controlplane.adapters.ca import Bundle

REGIONS = 16
PER_ROOM = 5
VARIANTS = 8
ACCESS_MS = 5.0, 16
"""From and how much more a client is away from its node: so near that nobody is better off elsewhere."""

_CODECS = (
    (common_pb2.MEDIA_KIND_AUDIO, common_pb2.Codec(name="opus", clock_rate=48_000, channels=2)),
    (common_pb2.MEDIA_KIND_VIDEO, common_pb2.Codec(name="vp8", clock_rate=90_000)),
)


def region_of(index: int) -> str:
    return f"r{index % REGIONS:02}"


def node_of(index: int) -> str:
    return f"{region_of(index)}-n{index:04}"


@dataclass
class Traffic:
    """Messages and bytes, both directions, as gRPC carries them."""

    messages: int = 0
    octets: int = 0

    def count(self, size: int) -> None:
        self.messages += 1
        self.octets += size


@dataclass
class Seen:
    """When nodes learned what a change meant to them: by the monotonic clock that all processes share."""

    links: dict[tuple[str, str], float] = field(default_factory=dict)
    """Room and node → first snapshot with a link of the room."""
    drains: dict[str, float] = field(default_factory=dict)
    broken: Counter[str] = field(default_factory=Counter)
    """Sessions that ended, by reason."""


class ModelNode:
    """One node."""

    def __init__(
        self, index: int, bundle: Bundle, capacity: int, traffic: Traffic, seen: Seen
    ) -> None:
        self._capacity = capacity
        self.index, self.node, self.region = index, node_of(index), region_of(index)
        self.people: dict[tuple[str, str], int] = {}
        self._credentials = grpc.ssl_channel_credentials(bundle.ca, bundle.key, bundle.cert)
        self._traffic, self._seen = traffic, seen
        self._writing = asyncio.Lock()
        self._links: frozenset[tuple[str, str]] = frozenset()
        self._linked_rooms: set[str] = set()
        self._interval_s = 2.0
        self._roster = b""
        self._figures: list[node_pb2.Figures] = []
        self._dirty = True
        self._draining = False
        self._rtts = [
            node_pb2.PeerRtt(
                node=f"{region_of(other)}-x", region=region_of(other), rtt_ms=_rtt_ms(index, other)
            )
            for other in range(REGIONS)
            if region_of(other) != self.region
        ]

    def arrive(self, room: str, who: str, epoch: int) -> None:
        self.people[room, who] = epoch
        self._dirty = True

    async def live(self, target: str, *, after_s: float) -> None:
        """Keep a session until cancelled."""
        await asyncio.sleep(after_s)
        while True:
            try:
                await self._session(target)
            except* grpc.aio.AioRpcError as group:
                [error, *_] = [
                    one for one in group.exceptions if isinstance(one, grpc.aio.AioRpcError)
                ]
                self._seen.broken[f"{error.code().name}: {(error.details() or '')[:60]}"] += 1
            except* asyncio.InvalidStateError as group:
                self._seen.broken[str(group.exceptions[0])] += 1
            await asyncio.sleep(random.uniform(0.2, 2.0))  # noqa: S311

    async def _session(self, target: str) -> None:
        async with grpc.aio.secure_channel(
            target, self._credentials, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = node_pb2_grpc.NodeServiceStub(channel).Session()
            await self._write(call, node_pb2.SessionRequest(hello=self._hello()))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._report(call))
                while True:
                    await self._hear(call)

    def _hello(self) -> node_pb2.Hello:
        return node_pb2.Hello(
            node=self.node,
            region=self.region,
            http_url=f"http://{self.node}.example.net",
            media=common_pb2.UdpEndpoint(host="192.0.2.1", port=5000),
            trunk_target=f"{self.node}.example.net:7000",
            capacity=self._capacity,
            version="bench",
            engine="embedded",
        )

    async def _write(self, call: Any, request: node_pb2.SessionRequest) -> None:
        self._traffic.count(request.ByteSize())
        async with self._writing:
            await call.write(request)

    async def _hear(self, call: Any) -> None:
        response = await call.read()
        now = time.monotonic()
        if not isinstance(response, node_pb2.SessionResponse):
            raise asyncio.InvalidStateError("the control plane ended the session")
        self._traffic.count(response.ByteSize())
        if not response.HasField("snapshot"):
            return
        snapshot = response.snapshot
        self._interval_s = snapshot.report_interval_ms / 1000
        if snapshot.draining != self._draining:
            self._draining = snapshot.draining
            self._seen.drains[self.node] = now
        links = frozenset(
            (link.room, link.to_node) for link in snapshot.links if link.from_node == self.node
        )
        rooms = {link.room for link in snapshot.links}
        for room in rooms - self._linked_rooms:
            self._seen.links.setdefault((room, self.node), now)
        self._linked_rooms = rooms
        if links != self._links:
            self._links, self._dirty = links, True
        ended = {(end.room, end.participant) for end in snapshot.end_sessions} & self.people.keys()
        for key in ended:
            del self.people[key]
            self._dirty = True
        result = node_pb2.SnapshotResult(version=snapshot.version, nonce=snapshot.nonce)
        await self._write(call, node_pb2.SessionRequest(result=result))

    async def _report(self, call: Any) -> None:
        """Report as relay/api/agent.py does."""
        await asyncio.sleep(random.random() * self._interval_s)  # noqa: S311
        sequence, told_at = 0, 0.0
        while True:
            now = time.monotonic()
            gap_s = self._interval_s / (2 if self._dirty else 1)
            if now - told_at >= gap_s:
                told_at = now
                sequence += 1
                if self._dirty:
                    self._make()
                report = node_pb2.Report(
                    sequence=sequence,
                    load=len(self.people) / self._capacity,
                    rtts=self._rtts,
                    roster=self._roster,
                    figures=self._figures[sequence % VARIANTS],
                )
                await self._write(call, node_pb2.SessionRequest(report=report))
            await asyncio.sleep(min(0.25, max(0.05, told_at + gap_s - now)))

    def _make(self) -> None:
        self._dirty = False
        links = sorted(self._links)
        self._roster = node_pb2.Roster(
            participants=[
                node_pb2.ParticipantReport(
                    room=room, participant=who, epoch=epoch, slots=4, tracks=_tracks(who)
                )
                for (room, who), epoch in self.people.items()
            ],
            links=[
                node_pb2.LinkReport(
                    room=room,
                    to_node=other,
                    state=node_pb2.LINK_STATE_UP,
                    tracks=[f"p{index}-video" for index in range(3)],
                )
                for room, other in links
            ],
        ).SerializeToString()
        base = [ACCESS_MS[0] + zlib.crc32(f"{key}".encode()) % ACCESS_MS[1] for key in self.people]
        self._figures = [
            node_pb2.Figures(
                rtt_ms=[rtt + random.random() for rtt in base],  # noqa: S311
                link_packets=[variant * 1000] * len(links),
                link_repaired=[variant] * len(links),
                link_lost=[0] * len(links),
            )
            for variant in range(VARIANTS)
        ]


def _rtt_ms(node: int, other: int) -> float:
    """Return the round trip between two regions, which lie around the world in a ring."""
    apart = abs(node - other) % REGIONS
    return 20.0 + 25.0 * min(apart, REGIONS - apart)


def _tracks(who: str) -> Iterator[node_pb2.TrackReport]:
    for kind, codec in _CODECS:
        yield node_pb2.TrackReport(id=f"{who}-{codec.name}", kind=kind, codec=codec)


class ModelFleet:
    """All nodes, and the people on them: three of a room on one node, two on another."""

    def __init__(self, bundles: Iterable[Bundle], rooms: int, capacity: int) -> None:
        self.traffic, self.seen = Traffic(), Seen()
        self.nodes = [
            ModelNode(index, bundle, capacity, self.traffic, self.seen)
            for index, bundle in enumerate(bundles)
        ]
        self.by_name = {node.node: node for node in self.nodes}
        self.arrived = 0
        """People who came from nodes that were killed."""
        self.killed: set[str] = set()
        count = len(self.nodes)
        for room in range(rooms):
            for seat in range(PER_ROOM):
                index = room % count if seat < 3 else (room * 7 + 13 + room // count) % count
                self.nodes[index].arrive(f"room-{room:05}", f"p{seat}", 1)

    async def follow(self, url: str, headers: dict[str, str]) -> None:
        """Let people go where events say that they were moved."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
            session.get(url) as answer,
        ):
            kind = ""
            async for raw in answer.content:
                line = raw.decode().rstrip()
                if line.startswith("event:"):
                    kind = line[6:].strip()
                elif line.startswith("data:") and kind == "participant.moved":
                    self._moved(json.loads(line[5:]))

    def _moved(self, data: dict[str, Any]) -> None:
        """Let somebody go, unless they never came to where they should have been."""
        to = self.by_name.get(data["node"])
        before = self.by_name.get(data.get("from_node") or "")
        key = data["room"], data["participant"]
        if to is None or before is None or before.people.pop(key, None) is None:
            return
        to.arrive(*key, data["epoch"])
        self.arrived += before.node in self.killed


@dataclass(frozen=True)
class Where:
    """Where the control plane is, and how fast to come."""

    target: str
    url: str
    key: str
    connects_per_s: float


async def _next(pipe: Connection) -> Any:
    """Return the next command; to stop is the last one, also of a bench that was killed."""
    try:
        return await asyncio.to_thread(pipe.recv)
    except EOFError:
        return ("stop",)


class Lag:
    """How late the loop of the model nodes is: what they add to every figure."""

    def __init__(self) -> None:
        self._late = [0.0]

    async def watch(self) -> None:
        while True:
            due = time.monotonic() + 0.02
            await asyncio.sleep(0.02)
            self._late.append(time.monotonic() - due)

    def p99_ms(self) -> float:
        """Return the lateness since it was last asked for."""
        late, self._late = sorted(self._late), [0.0]
        return 1000 * late[len(late) * 99 // 100]


async def live(pipe: Connection, fleet: ModelFleet, where: Where) -> None:
    """Run the fleet until told to stop; `pipe` brings commands and takes answers."""
    lag = Lag()
    async with asyncio.TaskGroup() as group:
        tasks = {
            node.node: group.create_task(
                node.live(where.target, after_s=node.index / where.connects_per_s)
            )
            for node in fleet.nodes
        }
        headers = {"Authorization": f"Bearer {where.key}"}
        tasks["follower"] = group.create_task(fleet.follow(f"{where.url}/v1/events", headers))
        tasks["lag"] = group.create_task(lag.watch())
        while (command := await _next(pipe))[0] != "stop":
            match command:
                case ("traffic",):
                    pipe.send((fleet.traffic.messages, fleet.traffic.octets, fleet.arrived))
                case ("seen",):
                    pipe.send((dict(fleet.seen.links), dict(fleet.seen.drains)))
                case ("health",):
                    pipe.send((time.process_time(), lag.p99_ms(), dict(fleet.seen.broken)))
                case ("kill", count):
                    fleet.killed = {node.node for node in fleet.nodes[-count:]}
                    for node in fleet.nodes[-count:]:
                        tasks.pop(node.node).cancel()
                    pipe.send(None)
                case _:
                    raise ValueError(command)
        for task in tasks.values():
            task.cancel()
