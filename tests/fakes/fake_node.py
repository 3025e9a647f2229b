"""A control plane and a node in one small server, for tests of clients: real WHIP, WHEP and media on aiortc.

It admits everybody, sends one other participant's picture and tone to each subscriber, and can be made to break.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self

from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from controlplane.cli.demo_media import MovingPicture, Tone

TOKEN = "token-of-the-fake"


class FakeNode:
    """The server, as an asynchronous context manager; `node` is the name of the node that it plays."""

    def __init__(self, node: str, other: str, hops: int = 1) -> None:
        self.node = node
        self.joins: list[Mapping[str, Any]] = []
        """Bodies of all joins."""
        self.left: list[str] = []
        self.closed: list[str] = []
        """Paths of the WHIP and WHEP sessions that were ended by DELETE."""
        self.published: set[str] = set()
        """Kinds of which at least one frame was decoded."""
        self.refuse_whip: web.Response | None = None
        self._other, self._hops = other, hops
        self._epoch = 0
        self._peers: list[RTCPeerConnection] = []
        self._slots: list[dict[str, Any]] = []
        self._events: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue()
        self._slots_broken = asyncio.Event()
        self._readers: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.put("/v1/rooms/{room}/participants/{participant}", self._join),
                web.delete("/v1/rooms/{room}/participants/{participant}", self._leave),
                web.get("/v1/events", self._event_stream),
                web.post("/whip/{room}/{participant}", self._whip),
                web.post("/whep/{room}/{participant}", self._whep),
                web.get("/sessions/down/slots", self._slot_stream),
                web.delete("/sessions/{session}", self._end),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self._peers:
            await peer.close()
        for reader in self._readers:
            reader.cancel()
        await self._runner.cleanup()

    def say(self, kind: str, data: Mapping[str, Any]) -> None:
        """Send an event to whoever reads the room's events."""
        self._events.put_nowait((kind, data))

    def break_slots(self) -> None:
        """End the slot stream, as a node that dies does."""
        self._slots_broken.set()

    async def _join(self, request: web.Request) -> web.Response:
        self.joins.append(await request.json())
        self._epoch += 1
        ids = f"{request.match_info['room']}/{request.match_info['participant']}"
        answer = {
            "epoch": self._epoch,
            "node": {
                "id": self.node,
                "region": "eu-a",
                "whip_url": f"{self.url}/whip/{ids}",
                "whep_url": f"{self.url}/whep/{ids}",
            },
            "token": TOKEN,
            "ice_servers": [],
            "decision": {"because": ["the only node"]},
        }
        return web.json_response(answer, status=201)

    async def _leave(self, request: web.Request) -> web.Response:
        self.left.append(request.match_info["participant"])
        return web.Response(status=204)

    async def _whip(self, request: web.Request) -> web.Response:
        if self.refuse_whip is not None:
            refusal, self.refuse_whip = self.refuse_whip, None
            return refusal
        peer = self._peer()

        @peer.on("track")
        def on_track(track: Any) -> None:
            reader = asyncio.get_running_loop().create_task(self._read(track))
            self._readers.add(reader)

        return await self._answer(peer, request, "/sessions/up")

    async def _whep(self, request: web.Request) -> web.Response:
        peer = self._peer()
        peer.addTrack(MovingPicture(2))
        peer.addTrack(Tone(2))
        answer = await self._answer(peer, request, "/sessions/down")
        self._slots_broken.clear()
        self._slots = [
            {
                "mid": transceiver.mid,
                "kind": transceiver.kind,
                "participant": self._other if transceiver.currentDirection == "sendonly" else None,
                "hops": self._hops,
            }
            for transceiver in peer.getTransceivers()
        ]
        answer.headers["Link"] = '</sessions/down/slots>; rel="urn:thalweg:params:slots"'
        return answer

    async def _answer(
        self, peer: RTCPeerConnection, request: web.Request, location: str
    ) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        offer = RTCSessionDescription(await request.text(), "offer")
        await peer.setRemoteDescription(offer)
        await peer.setLocalDescription(await peer.createAnswer())
        return web.Response(
            status=201,
            text=peer.localDescription.sdp,
            content_type="application/sdp",
            headers={"Location": location},
        )

    async def _end(self, request: web.Request) -> web.Response:
        self.closed.append(request.path)
        return web.Response(text="ended")

    async def _slot_stream(self, request: web.Request) -> web.StreamResponse:
        stream = await _event_stream(request)
        await _send(stream, "slots", {"slots": self._slots})
        await self._slots_broken.wait()
        return stream

    async def _event_stream(self, request: web.Request) -> web.StreamResponse:
        stream = await _event_stream(request)
        while True:
            kind, data = await self._events.get()
            await _send(stream, kind, data)

    def _peer(self) -> RTCPeerConnection:
        peer = RTCPeerConnection(RTCConfiguration([]))
        self._peers.append(peer)
        return peer

    async def _read(self, track: Any) -> None:
        try:
            while True:
                await track.recv()
                self.published.add(track.kind)
        except MediaStreamError:
            return


async def _event_stream(request: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await stream.prepare(request)
    return stream


async def _send(stream: web.StreamResponse, kind: str, data: Mapping[str, Any]) -> None:
    await stream.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())
