"""Real WebRTC clients (aiortc) and a node's media half, for tests on loopback."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urljoin

import aiohttp
import jwt
from aiohttp import web
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.cli.demo_client import stay_on_loopback
from controlplane.cli.demo_media import MovingPicture, Tone
from relay.api.http import make_app
from relay.api.state import NodeState
from relay.core.rooms import Rooms
from relay.engines.embedded.engine import EmbeddedEngine

LOOPBACK = "127.0.0.1"


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
        now = time.time()
        payload = {
            "iss": "thalweg", "aud": [node], "sub": participant, "room": room, "epoch": 1,
            "role": "publisher", "iat": now, "nbf": now, "exp": now + 60, **claims,
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


@asynccontextmanager
async def running_node(
    node: str = "n1",
    *,
    advertise: tuple[str, int] = (LOOPBACK, 0),
    media_port: int = 0,
    rooms: Rooms | None = None,
) -> AsyncIterator[RunningNode]:
    """Run the media half of a node: engine and HTTP, no trunk, no control plane."""
    stay_on_loopback([f"http://{LOOPBACK}"])
    rooms = rooms or Rooms()
    engine = EmbeddedEngine(rooms, node=node, bind=(LOOPBACK, media_port), advertise=advertise)
    state = NodeState(node, capacity=10)
    signer = Signer()
    state.token_keys.replace({"k1": signer.public})
    state.serving = True
    runner = web.AppRunner(make_app(engine, state, lambda: b""))
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    port = runner.addresses[0][1]
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(engine.run())
        try:
            await engine.ready.wait()
            yield RunningNode(engine, rooms, state, f"http://{LOOPBACK}:{port}", signer)
        finally:
            await runner.cleanup()
            serving.cancel()


@dataclass
class Client:
    """One participant's browser, without the browser."""

    http: aiohttp.ClientSession
    node: RunningNode
    name: str
    up: RTCPeerConnection = field(default_factory=RTCPeerConnection)
    down: RTCPeerConnection = field(default_factory=RTCPeerConnection)
    frames: dict[str, int] = field(default_factory=dict)
    """Decoded, by mid."""
    links: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)

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
        headers = {
            "Authorization": f"Bearer {self.node.signer.token(self.name, node=self.node.state.node)}",
            "Content-Type": "application/sdp",
        }
        async with self.http.post(url, data=peer.localDescription.sdp, headers=headers) as answer:
            sdp = await answer.text()
            assert answer.status == 201, sdp
            self.sessions.append(urljoin(url, answer.headers["Location"]))
        await peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def count(self) -> None:
        """Count decoded frames until cancelled."""
        async with asyncio.TaskGroup() as group:
            for transceiver in self.down.getTransceivers():
                group.create_task(self._count(transceiver.mid, transceiver.receiver.track))

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
