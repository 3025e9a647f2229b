"""Links that come and go while their trunk stays."""

import asyncio

from relay.core.model import MediaKind
from relay.transport.clock import monotonic
from relay.trunk.model import Link
from tests.fakes.trunk_node import ROOM, Camera, TrunkNode, Viewer, flows, link, offered
from tests.fakes.waiting import eventually


async def test_a_link_that_only_one_end_saw_go_and_come_flows_on_after_a_wrap() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        camera = Camera(a, sequence=32_767)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-video"))
        viewer = Viewer()
        b.remote("ana-video").attach(viewer)
        await eventually(lambda: flows(camera))
        for number in range(33_000):  # past 65535
            camera.send(size=20)
            if number % 100 == 99:
                await asyncio.sleep(0.002)
        last = camera.payloads[-1]
        await eventually(lambda: None if viewer.packets[-1].endswith(last) else "on its way")
        b.manager.desired([], [a.as_peer()])
        await eventually(lambda: offered(b))
        await eventually(lambda: None if not camera.track.wanted else "still wanted")
        b.manager.desired([Link(ROOM, "a", "b")], [a.as_peer()])
        await eventually(lambda: offered(b, "ana-video"))
        again = Viewer()
        b.remote("ana-video").attach(again)
        await eventually(lambda: flows(camera))
        camera.send(keyframe=True)
        await eventually(lambda: None if again.packets else "no packets")
        assert b.manager.socket.counters.forged == 0


async def test_the_far_end_hears_of_speakers_that_it_does_not_receive() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        speaker = Camera(a, "ana-audio", kind=MediaKind.AUDIO)
        silent = Camera(a, "ben-audio", kind=MediaKind.AUDIO)
        link(a, b, ROOM)
        await eventually(lambda: offered(b, "ana-audio", "ben-audio"))
        speaker.track.spoke_at = monotonic()
        heard = b.remote("ana-audio")
        await eventually(lambda: None if heard.spoke_at > 0 else "nobody speaks", timeout=3)
        assert not speaker.track.wanted
        assert not silent.track.wanted
        assert b.remote("ben-audio").spoke_at < 0


async def test_rooms_that_are_over_leave_nothing_behind() -> None:
    async with TrunkNode("a").running() as a, TrunkNode("b").running() as b:
        link(a, b, "stays")
        for number in range(5):
            room = f"r{number}"
            camera = Camera(a, room=room)
            link(a, b, "stays", room)
            await eventually(lambda: offered(b, "ana-video", room=room))  # noqa: B023
            camera.leave()
            link(a, b, "stays")
            await eventually(lambda: offered(b, room=room))  # noqa: B023
        await asyncio.sleep(0.1)
        for node, peer in ((a, "b"), (b, "a")):
            trunk = node.manager.trunks[peer]
            assert trunk.receiver._offers.keys() <= {"stays"}
            assert trunk.sender._demand.keys() <= {"stays"}
