"""Both legs of a client lose 5 % of their packets, both ways: nearly all video arrives, after repair."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

from aiortc import MediaStreamTrack
from av import Packet

from relay.core.track import Track
from tests.fakes.lossy_udp import LossyUdp
from tests.fakes.trunk_node import free_udp_port
from tests.fakes.waiting import eventually
from tests.relay.rtc import LOOPBACK, RunningNode, Wire, client, counting, running_node

LOSS = 0.05
ARRIVES = 0.995
SECONDS = 6.0
FRAME_RATE = 50
FRAME_BYTES = 6000  # five packets


class Coded(MediaStreamTrack):
    """Frames that are coded already, though not as anything that decodes: the network does not look inside."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._index = 0

    async def recv(self) -> Any:
        await asyncio.sleep(1 / FRAME_RATE)
        packet: Any = Packet(b"\0" + os.urandom(FRAME_BYTES - 1))  # bit 0 clear: a key frame
        packet.pts, packet.time_base = self._index * 90_000 // FRAME_RATE, Fraction(1, 90_000)
        self._index += 1
        return packet


@asynccontextmanager
async def lossy_node(seed: int) -> AsyncIterator[tuple[RunningNode, LossyUdp]]:
    """A node behind a path that is good until the connection stands."""
    port = free_udp_port()
    async with (
        LossyUdp((LOOPBACK, port), loss=0, delay_s=0.005, seed=seed) as path,
        running_node(media_port=port, advertise=path.address) as node,
    ):
        yield node, path


def video(node: RunningNode) -> Track | None:
    return next((t for t in node.rooms.tracks("r") if t.info.kind == "video"), None)


async def test_the_publishers_leg_is_repaired() -> None:
    async with lossy_node(seed=11) as (node, path), client(node, "ana") as ana:
        await ana.publish(Coded())
        await eventually(lambda: None if video(node) else "nothing is published", 15)
        path.loss = LOSS
        await asyncio.sleep(SECONDS)
        path.loss = 0
        await asyncio.sleep(0.5)  # what is under repair
        track = video(node)
        assert track is not None
        received, lost = track.reception.received, track.reception.lost
    assert path.up.lost > received * LOSS / 2
    assert received > 800
    assert received / (received + lost) >= ARRIVES


async def test_the_subscribers_leg_is_repaired() -> None:
    async with (
        lossy_node(seed=13) as (node, path),
        running_node("n1", rooms=node.rooms) as other,  # the publisher's leg is clean
        client(other, "ana") as ana,
        client(node, "bob") as bob,
    ):
        await ana.publish(Coded())
        await bob.subscribe(video=1, audio=0)
        wire = Wire(bob.down)
        async with counting(bob):
            await eventually(lambda: None if len(wire.sequences) > 50 else "nothing flows", 15)
            path.loss = LOSS
            await asyncio.sleep(SECONDS)
            path.loss = 0
            await asyncio.sleep(0.5)
    first, last = min(wire.sequences), max(wire.sequences)
    assert last - first > 800
    assert path.down.lost > (last - first) * LOSS / 2
    assert wire.repairs > 0
    assert len(wire.sequences) / (last - first + 1) >= ARRIVES


async def test_a_connection_is_made_over_a_lossy_path() -> None:
    """ICE and DTLS repeat what is lost: a fifth of it here, both ways."""
    async with lossy_node(seed=17) as (node, path), client(node, "ana") as ana:
        path.loss = 0.2
        await ana.publish(Coded())
        await eventually(lambda: None if video(node) else "nothing is published", 20)
