"""Two nodes with real mTLS signalling and real UDP on loopback."""

import asyncio
import random

import pytest

from relay.core.model import MediaKind
from relay.transport.clock import monotonic
from relay.trunk.model import Endpoint, Link, TrunkState
from relay.trunk.trunk import UDP_SILENCE_S
from relay.trunk.udp import TrunkSocket
from tests.fakes.lossy_udp import LossyUdp
from tests.fakes.trunk_node import (
    HOST,
    ROOM,
    Camera,
    TrunkNode,
    Viewer,
    flows,
    free_udp_port,
    link,
    offered,
)
from tests.fakes.waiting import eventually


async def test_a_track_crosses_only_while_it_is_wanted() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        camera = Camera(a)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        remote = b.remote("ana-video")
        assert (remote.info.hops, remote.info.origin_node, remote.info.participant) == (
            1,
            "a",
            "ana",
        )

        camera.send()
        await asyncio.sleep(0.1)
        assert camera.demands == []
        assert a.manager.socket.counters.sent < 5  # reports, and no media

        viewer = Viewer()
        remote.attach(viewer)
        remote.request_keyframe(monotonic())
        await eventually(lambda: flows(camera))
        assert camera.keyframes_asked == 1
        camera.send(keyframe=True)
        camera.send()
        await eventually(lambda: None if len(viewer.packets) == 2 else "no packets")
        assert viewer.payloads == camera.payloads[1:]
        [status] = a.manager.links()
        assert (status.state, status.tracks, status.packets) == (TrunkState.UP, ("ana-video",), 2)

        remote.detach(viewer)
        await eventually(lambda: "still wanted" if camera.track.wanted else None)
        for _ in range(300):
            camera.send()
        assert camera.demands == [True, False]

        # It begins anew where the publisher is now, and what lies between is not missing.
        remote.attach(viewer)
        await eventually(lambda: flows(camera))
        camera.send(keyframe=True)
        camera.send()
        await eventually(lambda: None if len(viewer.packets) == 4 else "no packets")
        await asyncio.sleep(0.1)
        assert viewer.payloads[2:] == camera.payloads[-2:]
        assert a.manager.links()[0].repaired == 0
        assert remote.report_block(monotonic()).lost == 0


async def test_a_withdrawn_track_leaves_and_a_republished_one_flows_at_once() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        camera = Camera(a)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        viewer = Viewer()
        b.remote("ana-video").attach(viewer)
        await eventually(lambda: flows(camera))
        camera.leave()
        await eventually(lambda: offered(b))
        assert not camera.track.wanted

        again = Camera(a, sequence=7)
        await eventually(lambda: offered(b, "ana-video"))
        b.remote("ana-video").attach(viewer)
        await eventually(lambda: flows(again))
        again.send(keyframe=True)
        await eventually(lambda: None if viewer.packets else "no packets")


async def test_no_track_leaves_by_a_trunk_that_came_by_one() -> None:
    async with (
        TrunkNode("a").running() as a,
        TrunkNode("b").running() as b,
        TrunkNode("c").running() as c,
    ):
        Camera(a)
        both = [Link(ROOM, "a", "b"), Link(ROOM, "b", "c")]
        a.manager.desired(both[:1], [b.as_peer()])
        b.manager.desired(both, [a.as_peer(), c.as_peer()])
        c.manager.desired(both[1:], [b.as_peer()])
        await eventually(lambda: offered(b, "ana-video"))
        Camera(b, "ben-video")
        await eventually(lambda: offered(c, "ben-video"))
        await asyncio.sleep(0.1)
        assert offered(c, "ben-video") is None
        assert offered(a, "ana-video") is None  # the link is one way


async def test_only_linked_rooms_cross() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        Camera(a, room="open")
        Camera(a, room="shut")
        link(a, b, "open")
        await eventually(lambda: offered(b, "ana-video", room="open"))
        assert offered(b, room="shut") is None
        link(a, b, "shut")
        await eventually(lambda: offered(b, "ana-video", room="shut"))
        await eventually(lambda: offered(b, room="open"))


async def test_a_link_that_one_end_knows_later_comes_up() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        Camera(a)
        b.manager.desired([], [a.as_peer()])
        a.manager.desired([Link(ROOM, "a", "b")], [b.as_peer()])
        await eventually(lambda: None if b.manager.trunks else "not called yet")
        await asyncio.sleep(0.2)
        assert a.manager.links()[0].state is TrunkState.CONNECTING
        assert offered(b) is None
        b.manager.desired([Link(ROOM, "a", "b")], [a.as_peer()])
        await eventually(lambda: offered(b, "ana-video"))
        assert a.manager.links()[0].state is TrunkState.UP


@pytest.mark.parametrize("kind", list(MediaKind))
async def test_loss_on_the_trunk_is_repaired(kind: MediaKind) -> None:
    a_udp, b_udp = free_udp_port(), free_udp_port()
    async with (
        LossyUdp((HOST, a_udp), loss=0.05, delay_s=0.01, seed=3) as to_a,
        LossyUdp((HOST, b_udp), loss=0.05, delay_s=0.01, seed=5) as to_b,
        TrunkNode("a", udp_port=a_udp, advertise=Endpoint(*to_a.address)).running() as a,
        TrunkNode("b", udp_port=b_udp, advertise=Endpoint(*to_b.address)).running() as b,
    ):
        camera = Camera(a, kind=kind)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        viewer = Viewer()
        b.remote("ana-video").attach(viewer)
        await eventually(lambda: flows(camera))
        for number in range(2000):
            camera.send(keyframe=number == 0, size=200)
            if number % 8 == 7:
                await asyncio.sleep(0.008)
        tail = 20  # a packet is missing only once a later one has come
        await eventually(
            lambda: (
                None
                if len(set(camera.payloads[:-tail]) - set(viewer.payloads)) <= 1
                else f"{len(viewer.packets)} of 2000 packets"
            ),
            timeout=3,
        )
        assert len(viewer.payloads) == len(set(viewer.payloads))
        assert to_b.up.lost > 50
        assert a.manager.links()[0].repaired >= 50
        assert b.manager.socket.counters.repaired >= 50


async def test_a_key_frame_request_reaches_the_publisher_though_the_first_is_lost() -> None:
    a_udp = free_udp_port()
    async with (
        LossyUdp((HOST, a_udp), loss=0.0) as to_a,
        TrunkNode("a", udp_port=a_udp, advertise=Endpoint(*to_a.address)).running() as a,
        TrunkNode("b").running() as b,
    ):
        camera = Camera(a)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        remote = b.remote("ana-video")
        remote.attach(Viewer())
        await eventually(lambda: flows(camera))
        await asyncio.sleep(0.55)  # past the throttle of the request that came with the demand
        assert camera.keyframes_asked == 1
        to_a.loss = 1.0
        remote.request_keyframe(monotonic())
        await asyncio.sleep(0.1)
        assert camera.keyframes_asked == 1
        to_a.loss = 0.0
        await eventually(lambda: None if camera.keyframes_asked == 2 else "not asked")
        camera.send(keyframe=True)
        await asyncio.sleep(0.7)
        assert camera.keyframes_asked == 2  # it came: nobody asks again


async def test_a_trunk_comes_back_after_the_far_end_was_killed() -> None:
    async with TrunkNode("a").running() as a:
        camera = Camera(a)
        async with TrunkNode("b").running() as b:
            link(a, b, ROOM)
            await eventually(lambda: offered(b, "ana-video"))
            b.remote("ana-video").attach(Viewer())
            await eventually(lambda: flows(camera))
            grpc_port = b.runner.grpc_port
        await eventually(lambda: None if not camera.track.wanted else "a has not noticed")
        assert a.manager.links()[0].state is TrunkState.DOWN
        async with TrunkNode("b", grpc_port=grpc_port).running() as b:
            b.manager.desired([Link(ROOM, "a", "b")], [a.as_peer()])
            await eventually(lambda: offered(b, "ana-video"))
            viewer = Viewer()
            b.remote("ana-video").attach(viewer)
            await eventually(lambda: flows(camera))
            camera.send(keyframe=True)
            await eventually(lambda: None if viewer.packets else "no packets")


async def test_remote_tracks_outlive_their_trunk_for_a_grace() -> None:
    async with TrunkNode("b").running() as b:
        async with TrunkNode("a").running() as a:
            Camera(a)
            link(a, b, ROOM)
            await eventually(lambda: offered(b, "ana-video"))
        await eventually(
            lambda: None if b.manager.trunks["a"].state is TrunkState.DOWN else "still up"
        )
        assert offered(b, "ana-video") is None
        await eventually(lambda: offered(b), timeout=6)


async def test_random_bytes_on_the_trunk_port_do_nothing() -> None:
    dice = random.Random(1)  # noqa: S311
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        camera = Camera(a)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        viewer = Viewer()
        b.remote("ana-video").attach(viewer)
        await eventually(lambda: flows(camera))
        # From nobody, and with the source address of the far end itself.
        stranger = free_udp_port()
        for source in (stranger, a.manager.endpoint.port):
            for size in (0, 1, 11, 12, 13, 40, 200, 1400):
                for first in (0x80, 0x90, dice.randrange(256)):
                    junk = bytes([first]) + dice.randbytes(size)
                    b.manager.socket.datagram_received(junk, (HOST, source))
        assert b.manager.socket.counters.stray == 24
        assert b.manager.socket.counters.forged == 24
        camera.send(keyframe=True)
        await eventually(lambda: None if viewer.packets else "no packets")


async def test_a_replayed_packet_is_dropped() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        camera = Camera(a)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        viewer = Viewer()
        b.remote("ana-video").attach(viewer)
        await eventually(lambda: flows(camera))
        session = a.manager.trunks["b"].session
        assert session is not None
        seen: list[bytes] = []
        session.carrier._socket = Tap(session.carrier._socket, seen)  # type: ignore[assignment]
        camera.send(keyframe=True)
        await eventually(lambda: None if viewer.packets else "no packets")
        forged = b.manager.socket.counters.forged
        b.manager.socket.datagram_received(seen[0], (HOST, a.manager.endpoint.port))
        assert b.manager.socket.counters.forged == forged + 1
        assert len(viewer.packets) == 1


class Tap:
    """Keeps what goes through a socket."""

    def __init__(self, socket: TrunkSocket, seen: list[bytes]) -> None:
        self._socket = socket
        self._seen = seen
        self.remove = socket.remove

    def send(self, datagram: bytes, address: tuple[str, int]) -> None:
        self._seen.append(datagram)
        self._socket.send(datagram, address)


async def test_a_trunk_without_links_closes_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.trunk.manager.IDLE_S", 0.3)
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        Camera(a)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        link(a, b)
        await eventually(lambda: offered(b))
        await eventually(lambda: f"{a.manager.trunks}" if a.manager.trunks else None)
        await eventually(lambda: f"{b.manager.trunks}" if b.manager.trunks else None)


async def test_a_track_published_here_is_not_replaced_by_one_from_afar() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        Camera(a, "same")
        here = Camera(b, "same")
        Camera(a, "other")
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "same", "other"))
        assert b.remote("same") is here.track
        here.leave()
        await eventually(lambda: offered(b, "same", "other"))
        assert b.remote("same").info.origin_node == "a"


async def test_sender_reports_carry_the_publishers_clock_across() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        camera = Camera(a)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        remote = b.remote("ana-video")
        remote.attach(Viewer())
        await eventually(lambda: flows(camera))
        camera.send(keyframe=True)
        camera.report()

        def same_clock() -> str | None:
            now = 4e9
            here, there = camera.track.clock.timestamp_at(now), remote.clock.timestamp_at(now)
            if here is None or there is None:
                return "no sender report crossed"
            return None if abs(here - there) < 9000 else f"{here} is not {there}"

        await eventually(same_clock)
        await eventually(
            lambda: None if a.manager.trunks["b"].rtt_s(monotonic()) is not None else "no RTT"
        )


async def test_blocked_udp_shows_as_a_link_that_is_down() -> None:
    b_udp = free_udp_port()
    async with (
        LossyUdp((HOST, b_udp), loss=0) as to_b,
        TrunkNode("a").running() as a,
        TrunkNode("b", udp_port=b_udp, advertise=Endpoint(*to_b.address)).running() as b,
    ):
        Camera(a)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        to_b.loss = 1.0

        def down() -> str | None:
            [status] = [one for one in a.manager.links() if one.to_node == "b"]
            return None if status.state is TrunkState.DOWN else f"the link is {status.state}"

        await eventually(down, timeout=UDP_SILENCE_S + 3)
        to_b.loss = 0.0
        await eventually(lambda: None if down() else "still down", timeout=5)
