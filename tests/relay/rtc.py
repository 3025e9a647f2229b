"""Real WebRTC clients (aiortc) and a node's media half, for tests on loopback."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urljoin

import aiohttp
import jwt
from aiohttp import web
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import SessionDescription
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.cli.demo_client import stay_on_loopback
from controlplane.cli.demo_media import MovingPicture, Tone
from guard.addresses import IpNetwork
from relay.api.http import make_app
from relay.api.probes import Probes
from relay.api.sessions import SLOTS_RELATION
from relay.api.state import NodeState
from relay.core import rtcp, rtp
from relay.core.rooms import Rooms
from relay.engines.embedded.engine import EmbeddedEngine
from relay.transport.clock import wall

LOOPBACK = "127.0.0.1"

# aiortc's default, balanced, leaves the second m-line of a kind on a transport that it has stopped.
ONE_TRANSPORT = RTCConfiguration(bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)


class Signer:
    """Signs participant tokens as the control plane does."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    def token(
        self, participant: str, *, room: str = "r", node: str = "n1", **claims: object
    ) -> str:
        """Return a good token, but for what `claims` say otherwise."""
        now = wall()
        payload = {
            "iss": "thalweg", "aud": [node], "sub": participant, "room": room, "epoch": 1,
            "role": "publisher", "iat": now, "nbf": now, "exp": now + 60,
            "jti": secrets.token_urlsafe(12), **claims,
        }  # fmt: skip
        return jwt.encode(payload, self._key, algorithm="EdDSA", headers={"kid": "k1"})


@dataclass
class RunningNode:
    """A node's engine and HTTP server."""

    engine: EmbeddedEngine
    rooms: Rooms
    state: NodeState
    url: str
    signer: Signer
    probes: Probes


@asynccontextmanager
async def running_node(
    node: str = "n1",
    *,
    advertise: tuple[str, int] = (LOOPBACK, 0),
    media_port: int = 0,
    rooms: Rooms | None = None,
    trusted_proxies: Sequence[IpNetwork] = (),
) -> AsyncIterator[RunningNode]:
    """Run the media half of a node: engine and HTTP, no trunk, no control plane."""
    stay_on_loopback([f"http://{LOOPBACK}"])
    rooms = rooms or Rooms()
    engine = EmbeddedEngine(rooms, node=node, bind=(LOOPBACK, media_port), advertise=advertise)
    state = NodeState(node, capacity=10)
    signer = Signer()
    state.token_keys.replace({"k1": signer.public})
    state.serving = True
    probes = Probes(trusted_proxies)
    app = make_app(engine, state, probes, lambda: b"")
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    port = runner.addresses[0][1]
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(engine.run())
        try:
            await engine.ready.wait()
            url = f"http://{LOOPBACK}:{port}"
            yield RunningNode(engine, rooms, state, url, signer, probes)
        finally:
            await runner.cleanup()
            serving.cancel()


@dataclass
class Client:
    """One participant's browser, without the browser."""

    http: aiohttp.ClientSession
    node: RunningNode
    name: str
    up: RTCPeerConnection = field(default_factory=lambda: RTCPeerConnection(ONE_TRANSPORT))
    down: RTCPeerConnection = field(default_factory=lambda: RTCPeerConnection(ONE_TRANSPORT))
    frames: dict[str, int] = field(default_factory=dict)
    """Decoded, by mid."""
    links: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    """URLs of the sessions that began."""
    slots_url: str = ""
    edit: Callable[[str], str] = str
    """Changes an offer on its way out."""

    async def publish(self, *tracks: MediaStreamTrack) -> None:
        """Publish these tracks, by default a picture and a tone."""
        for track in tracks or (MovingPicture(1), Tone(1)):
            self.up.addTransceiver(track, direction="sendonly")
        await self._negotiate(self.up, "whip")

    async def subscribe(self, *, video: int = 1, audio: int = 1, query: str = "") -> None:
        """Receive into so many slots."""
        for kind, count in (("video", video), ("audio", audio)):
            for _ in range(count):
                self.down.addTransceiver(kind, direction="recvonly")
        await self._negotiate(self.down, "whep", query)

    async def _negotiate(self, peer: RTCPeerConnection, door: str, query: str = "") -> None:
        await peer.setLocalDescription(await peer.createOffer())
        url = f"{self.node.url}/{door}/r/{self.name}{query}"
        headers = {**self._authorization, "Content-Type": "application/sdp"}
        offer = self.edit(peer.localDescription.sdp)
        async with self.http.post(url, data=offer, headers=headers) as answer:
            sdp = await answer.text()
            assert answer.status == 201, sdp
            self.sessions.append(urljoin(url, answer.headers["Location"]))
            if SLOTS_RELATION in answer.links:
                self.slots_url = str(answer.links[SLOTS_RELATION]["url"])
        await peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    @property
    def _authorization(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.node.signer.token(self.name, node=self.node.state.node)}"
        }

    async def end(self, session: str) -> None:
        """End one of the sessions."""
        async with self.http.delete(session, headers=self._authorization) as answer:
            assert answer.status == 200

    async def slots(self) -> dict[str, str | None]:
        """Return who is in which slot now."""
        async with self.http.get(self.slots_url, headers=self._authorization) as stream:
            assert await stream.content.readline() == b"event: slots\n"
            data = json.loads((await stream.content.readline()).removeprefix(b"data: "))
        return {slot["mid"]: slot["participant"] for slot in data["slots"]}

    async def count(self) -> None:
        """Count decoded frames until cancelled."""
        async with asyncio.TaskGroup() as group:
            for transceiver in self.down.getTransceivers():
                mid = transceiver.mid or ""
                group.create_task(self._count(mid, transceiver.receiver.track))

    async def _count(self, mid: str, track: MediaStreamTrack) -> None:
        while True:
            try:
                await track.recv()
            except MediaStreamError:
                return
            self.frames[mid] = self.frames.get(mid, 0) + 1


@asynccontextmanager
async def client(node: RunningNode, name: str) -> AsyncIterator[Client]:
    """A client that hangs up at the end."""
    async with aiohttp.ClientSession() as http:
        one = Client(http, node, name)
        try:
            yield one
        finally:
            await one.up.close()
            await one.down.close()


@asynccontextmanager
async def counting(*clients: Client) -> AsyncIterator[None]:
    """Let these clients, which have subscribed, count frames meanwhile."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.count()) for one in clients]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


class Wire:
    """What reaches a client: the sequence numbers of one SSRC, repairs included, and RTCP that asks of a sender."""

    def __init__(self, peer: RTCPeerConnection) -> None:
        self.sequences: set[int] = set()
        """Of the first video stream, without the wrap at 2^16."""
        self.media = 0
        self.repairs = 0
        self.keyframe_requests = 0
        self._highest: int | None = None
        video = next(
            m
            for m in SessionDescription.parse(peer.remoteDescription.sdp).media
            if m.kind == "video"
        )
        self._ssrc = video.ssrc[0].ssrc if video.ssrc else 0
        self._rtx = {c.payloadType for c in video.rtp.codecs if c.name == "rtx"}
        transport = peer.getTransceivers()[0].receiver.transport
        self._rtp, self._rtcp = transport._handle_rtp_data, transport._handle_rtcp_data
        transport._handle_rtp_data = self._see_rtp  # type: ignore[method-assign]
        transport._handle_rtcp_data = self._see_rtcp  # type: ignore[method-assign]

    async def _see_rtp(self, data: bytes, arrival_time_ms: int) -> None:
        header = rtp.parse(data)
        assert header is not None
        if header.payload_type in self._rtx:
            original = rtp.unwrap_rtx(data, 0, self._ssrc)
            if original is not None:
                self.repairs += 1
                self._note(rtp.sequence_of(original))
        elif header.ssrc == self._ssrc:
            self.media += 1
            self._note(header.sequence)
        await self._rtp(data, arrival_time_ms)

    async def _see_rtcp(self, data: bytes) -> None:
        self.keyframe_requests += sum(
            isinstance(packet, rtcp.KeyframeRequest) for packet in rtcp.parse(data)
        )
        await self._rtcp(data)

    def _note(self, sequence: int) -> None:
        highest = sequence if self._highest is None else self._highest
        extended = highest + rtp.sequence_delta(sequence, highest & 0xFFFF)
        self.sequences.add(extended)
        self._highest = max(highest, extended)
