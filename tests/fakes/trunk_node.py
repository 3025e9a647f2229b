"""A node that has trunks and nothing else, and the two ends of a track: a synthetic camera and somebody who looks."""

import asyncio
import datetime
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from controlplane.adapters.ca import CertificateAuthority
from relay.core.model import Codec, MediaKind, TrackInfo
from relay.core.reception import SenderTimeline
from relay.core.rooms import Rooms
from relay.core.rtcp import SenderReport
from relay.core.rtp import parse
from relay.core.track import Track
from relay.transport.clock import monotonic, ntp, wall
from relay.transport.tls import Credentials, TlsFiles
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Endpoint, Link, Peer
from relay.trunk.runner import TrunkRunner

HOST = "127.0.0.1"
REGION = "eu-frankfurt"
ROOM = "r"
VP8 = Codec("vp8", 90_000)
OPUS = Codec("opus", 48_000, 2)


@cache
def authority(name: str = "test") -> CertificateAuthority:
    """Return a CA that lasts as long as the test run."""
    now = datetime.datetime.fromtimestamp(wall(), datetime.UTC)
    return CertificateAuthority.create(name, now=now, lifetime=datetime.timedelta(days=1))


@cache
def tls_files(spiffe_path: str, ca: str = "test") -> TlsFiles:
    """Return a certificate for spiffe://thalweg/{spiffe_path} on loopback."""
    bundle = authority(ca).issue(
        f"spiffe://thalweg/{spiffe_path}",
        dns_names=["localhost"],
        ip_addresses=[HOST],
        now=datetime.datetime.fromtimestamp(wall(), datetime.UTC),
        lifetime=datetime.timedelta(hours=1),
    )
    return TlsFiles(bundle.ca, bundle.cert, bundle.key)


def node_tls(node: str, ca: str = "test") -> TlsFiles:
    """Return a node's certificate."""
    return tls_files(f"region/{REGION}/node/{node}", ca)


def free_udp_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class TrunkNode:
    """Rooms and trunks of one node."""

    def __init__(
        self,
        name: str,
        *,
        udp_port: int = 0,
        grpc_port: int = 0,
        advertise: Endpoint | None = None,
        tls: Credentials | None = None,
    ) -> None:
        self.name = name
        self.rooms = Rooms()
        self.manager = TrunkManager(name, self.rooms, advertise=advertise)
        self.runner = TrunkRunner(
            self.manager, tls or node_tls(name), udp=(HOST, udp_port), grpc_bind=(HOST, grpc_port)
        )

    @property
    def target(self) -> str:
        """Where its TrunkService is."""
        return f"{HOST}:{self.runner.grpc_port}"

    def as_peer(self) -> Peer:
        """Return how others know it."""
        return Peer(self.name, REGION, self.target, None)

    def remote(self, track_id: str, room: str = ROOM) -> Track:
        """Return a track that it knows."""
        track = self.rooms.track(room, track_id)
        assert track is not None
        return track

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TrunkNode"]:
        """Serve inside the block."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.runner.run())
            try:
                async with asyncio.timeout(5):
                    await self.runner.ready.wait()
                yield self
            finally:
                task.cancel()


def link(one: TrunkNode, other: TrunkNode, *rooms: str) -> None:
    """Link rooms between two nodes, both ways."""
    wanted = [
        Link(room, a, b)
        for room in rooms
        for a, b in ((one.name, other.name), (other.name, one.name))
    ]
    one.manager.desired(wanted, [other.as_peer()])
    other.manager.desired(wanted, [one.as_peer()])


class Camera:
    """Publishes a track; its Upstream."""

    def __init__(
        self,
        node: TrunkNode,
        track_id: str = "ana-video",
        *,
        room: str = ROOM,
        kind: MediaKind = MediaKind.VIDEO,
        sequence: int = 65_000,
    ) -> None:
        codec = VP8 if kind is MediaKind.VIDEO else OPUS
        info = TrackInfo(track_id, room, "ana", kind, codec, node.name)
        self.track = Track(info, 1, SenderTimeline(), self)
        self.node = node
        self.keyframes_asked = 0
        self.demands: list[bool] = []
        self.sequence = sequence
        self.payloads: list[bytes] = []
        """What was sent while somebody wanted it."""
        node.rooms.add([self.track])

    def request_keyframe(self, _track: Track) -> None:
        self.keyframes_asked += 1

    def demand_changed(self, track: Track) -> None:
        self.demands.append(track.wanted)

    def send(self, *, keyframe: bool = False, size: int = 1000) -> None:
        """Publish one packet."""
        number = struct.pack("!I", len(self.payloads))
        head = b"\x10" + (b"\x00" if keyframe else b"\x01")
        payload = (head + number).ljust(size, b"x")
        self.payloads.append(payload)
        header = struct.pack("!BBHII", 0x80, 100, self.sequence, len(self.payloads) * 3000, 1)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.track.receive(header + payload, monotonic())

    def report(self) -> None:
        """Send a sender report, as a client does."""
        report = SenderReport(1, ntp() - 1000, len(self.payloads) * 3000, 0, 0)
        self.track.sender_report(report, monotonic(), ntp())

    def leave(self) -> None:
        """Withdraw the track."""
        self.node.rooms.remove([self.track])


class Viewer:
    """A Sink that keeps what it gets."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def forward(self, _track: Track, packet: bytes, _now: float) -> None:
        self.packets.append(packet)

    @property
    def payloads(self) -> list[bytes]:
        """What the packets carry, in the order of arrival."""
        headers = [(packet, parse(packet)) for packet in self.packets]
        return [packet[header.payload_start :] for packet, header in headers if header is not None]


def offered(node: TrunkNode, *track_ids: str, room: str = ROOM) -> str | None:
    """Say what is wrong until a node knows exactly these tracks of a room."""
    known = {track.info.id for track in node.rooms.tracks(room)}
    return None if known == set(track_ids) else f"{node.name} knows {known}, not {track_ids}"


def flows(camera: Camera) -> str | None:
    """Say what is wrong until somebody takes the camera's track."""
    return None if camera.track.wanted else "nobody takes the track yet"
