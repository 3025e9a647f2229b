"""Round trips to real media ports."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvloop

from relay.core.rooms import Rooms
from relay.engines.embedded.engine import EmbeddedEngine
from relay.trunk.model import Endpoint, Peer
from relay.trunk.peer_rtt import PeerRtts
from tests.fakes.lossy_udp import LossyUdp
from tests.fakes.trunk_node import HOST, free_udp_port
from tests.fakes.waiting import eventually


@asynccontextmanager
async def measuring(rtts: PeerRtts, engine: EmbeddedEngine) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(engine.run())]
        await engine.ready.wait()
        running.append(tasks.create_task(rtts.run()))
        try:
            yield
        finally:
            for task in running:
                task.cancel()


async def test_the_round_trip_to_a_media_port_is_measured() -> None:
    port = free_udp_port()
    engine = EmbeddedEngine(Rooms(), node="b", bind=(HOST, port), advertise=(HOST, port))
    rtts = PeerRtts("a", HOST)
    async with LossyUdp((HOST, port), loss=0.0, delay_s=0.02) as path:
        near = Peer("b", "eu", "x:1", Endpoint(HOST, port))
        far = Peer("c", "us", "x:1", Endpoint(*path.address))
        silent = Peer("d", "us", "x:1", Endpoint(HOST, free_udp_port()))
        itself = Peer("a", "eu", "x:1", Endpoint(HOST, port))
        rtts.desired([near, far, silent, itself])
        async with measuring(rtts, engine):
            await eventually(lambda: None if len(rtts.rtts()) == 2 else f"{rtts.rtts()}")
            by_node = {rtt.node: rtt for rtt in rtts.rtts()}
            assert by_node["b"].region == "eu"
            assert 0 < by_node["b"].rtt_ms < 40 <= by_node["c"].rtt_ms < 140
            rtts.desired([near])
            assert [rtt.node for rtt in rtts.rtts()] == ["b"]


async def test_answers_that_nobody_asked_for_are_dropped() -> None:
    rtts = PeerRtts("a", HOST)
    rtts.desired([Peer("b", "eu", "x:1", Endpoint(HOST, 9))])
    dice = random.Random(1)  # noqa: S311
    for size in (0, 1, 19, 20, 32, 64, 500, 1400):
        rtts.datagram_received(dice.randbytes(size), (HOST, 9))
    forged = b"\x01\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    rtts.datagram_received(forged, (HOST, 9))
    assert rtts.rtts() == []


def test_a_peer_that_this_node_cannot_reach_does_not_end_it() -> None:
    """uvloop, unlike asyncio, raises when an IPv4 socket is to send to an IPv6 address."""

    async def ask() -> None:
        rtts = PeerRtts("a", HOST)
        rtts.desired([Peer("b", "eu", "x:1", Endpoint("::1", 9))])
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await rtts.run()
        assert rtts.rtts() == []

    uvloop.run(ask())
