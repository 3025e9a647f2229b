"""A participant who can reach nothing but TURN: `python -m tests.turn.call ORDER` until stdin ends.

Every half second a line of JSON says how many frames of whom were decoded, and by which kind of candidates.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
)

from controlplane.cli.demo_api import DemoApi, Seat
from controlplane.cli.demo_client import Call
from controlplane.cli.demo_tally import Tally
from tests.turn.client import say

SAY_EVERY_S = 0.5
CONNECT_S = 20.0


class RelayedCall(Call):
    """A call whose only candidates are relayed ones, by one transport of the first TURN server."""

    def __init__(
        self, http: aiohttp.ClientSession, seat: Seat, tally: Tally, transport: str
    ) -> None:
        super().__init__(http, seat, 1, tally)
        servers = [
            RTCIceServer(
                [url for url in server["urls"] if _transport(url) == transport],
                server["username"],
                server["credential"],
            )
            for server in seat.ice_servers
            if "username" in server
        ]
        config = RTCConfiguration(
            servers,
            bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
            iceTransportPolicy=RTCIceTransportPolicy.RELAY,
        )
        self._up = RTCPeerConnection(config)
        self._down = RTCPeerConnection(config)

    def candidates(self) -> list[str]:
        """Return the types of the local candidates that are in use."""
        ice = {
            transceiver.receiver.transport.transport
            for peer in (self._up, self._down)
            for transceiver in peer.getTransceivers()
        }
        pairs = [pair for one in ice for pair in one._connection._nominated.values()]
        return sorted(pair.local_candidate.type for pair in pairs)


def _transport(url: str) -> str:
    return "tls" if url.startswith("turns:") else url.rpartition("=")[2]


async def take_part(order: Mapping[str, Any]) -> None:
    """Join, publish, subscribe, tell, until stdin ends."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    async with DemoApi(order["api"], order["key"]) as api, aiohttp.ClientSession() as http:
        seat = await api.join(order["room"], order["participant"], {"session": "one"})
        servers = [server for server in seat.ice_servers if "username" in server]
        say({"turn": servers, "token": bool(seat.token)})
        call = RelayedCall(http, seat, tally, order["transport"])
        try:
            async with asyncio.timeout(CONNECT_S):
                await call.open()
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(call.carry(asyncio.Event())),
                    tasks.create_task(_tell(call, tally)),
                ]
                await loop.run_in_executor(None, sys.stdin.readline)
                for task in running:
                    task.cancel()
        finally:
            await call.close()


async def _tell(call: RelayedCall, tally: Tally) -> None:
    while True:
        heard = {
            peer: {"video": got.video_frames, "audio": got.audio_frames}
            for peer, got in tally.by_peer.items()
        }
        say({"heard": heard, "candidates": call.candidates()})
        await asyncio.sleep(SAY_EVERY_S)


if __name__ == "__main__":
    asyncio.run(take_part(json.loads(sys.argv[1])))
