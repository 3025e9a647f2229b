"""Loss on a trunk and on a subscriber's leg at once, repaired by each hop on its own: real clients, real nodes."""

import asyncio
import os
from fractions import Fraction

import pytest
from aiortc import RTCDtlsTransport, VideoStreamTrack
from av import VideoFrame

from relay.core.rtp import sequence_delta
from relay.trunk.model import Endpoint
from tests.fakes.lossy_udp import LossyUdp
from tests.fakes.trunk_node import HOST, TrunkNode, free_udp_port, link
from tests.fakes.waiting import eventually
from tests.relay.rtc import client, running_node

LOSS = 0.05
SECONDS = 15
FRAME_RATE = 30


class Noise(VideoStreamTrack):
    """A picture that does not compress, so that frames take several packets."""

    def __init__(self) -> None:
        super().__init__()
        self._index = 0
        self._frames = [self._frame() for _ in range(FRAME_RATE)]

    def _frame(self) -> VideoFrame:
        frame = VideoFrame(320, 180, "yuv420p")
        for plane in frame.planes:
            plane.update(os.urandom(plane.buffer_size))
        return frame

    async def recv(self) -> VideoFrame:
        await asyncio.sleep(1 / FRAME_RATE)
        frame = self._frames[self._index % FRAME_RATE]
        self._index += 1
        frame.pts, frame.time_base = self._index * 90_000 // FRAME_RATE, Fraction(1, 90_000)
        return frame


class Received:
    """Counts the distinct media packets that reach a client, repairs unwrapped."""

    def __init__(self, transport: RTCDtlsTransport, rtx: dict[int, int]) -> None:
        self.numbers: dict[int, set[int]] = {}
        """SSRC → sequence numbers without the wrap at 2^16."""
        self._last: dict[int, int] = {}
        self._rtx = rtx
        self._pass_on = transport._handle_rtp_data
        transport._handle_rtp_data = self._count  # type: ignore[method-assign]

    async def _count(self, data: bytes, arrival_time_ms: int) -> None:
        ssrc, number = int.from_bytes(data[8:12], "big"), int.from_bytes(data[2:4], "big")
        if (
            ssrc in self._rtx
        ):  # no header extensions and CSRCs in video here: the number follows the header
            assert data[0] & 0x1F == 0
            ssrc, number = self._rtx[ssrc], int.from_bytes(data[12:14], "big")
        last = self._last.setdefault(ssrc, number)
        whole = last + sequence_delta(number, last & 0xFFFF)
        self._last[ssrc] = max(last, whole)
        self.numbers.setdefault(ssrc, set()).add(whole)
        await self._pass_on(data, arrival_time_ms)

    def share(self, ssrc: int, *, tail: int) -> tuple[float, int]:
        """Return the share of packets that arrived, and how many there were, without the last `tail`."""
        numbers = self.numbers[ssrc]
        end = max(numbers) - tail
        expected = end - min(numbers) + 1
        return sum(number <= end for number in numbers) / expected, expected


def rtx_pairs(sdp: str) -> dict[int, int]:
    """Return RTX SSRC → media SSRC of an answer."""
    groups = [line.split()[1:] for line in sdp.splitlines() if line.startswith("a=ssrc-group:FID")]
    return {int(repair): int(media) for media, repair in groups}


@pytest.mark.timeout(120)
async def test_each_hop_repairs_five_percent_loss() -> None:
    """At least 99.5 % of the video packets arrive, with 5 % lost both ways on the trunk and on the last leg."""
    a_udp, b_udp, b_media = free_udp_port(), free_udp_port(), free_udp_port()
    async with (
        LossyUdp((HOST, a_udp), loss=LOSS, delay_s=0.02, seed=3) as to_a,
        LossyUdp((HOST, b_udp), loss=LOSS, delay_s=0.02, seed=5) as to_b,
        LossyUdp((HOST, b_media), loss=0, delay_s=0.005, seed=7) as leg,
        TrunkNode("a", udp_port=a_udp, advertise=Endpoint(*to_a.address)).running() as a,
        TrunkNode("b", udp_port=b_udp, advertise=Endpoint(*to_b.address)).running() as b,
        running_node("a", rooms=a.rooms) as node_a,
        running_node("b", rooms=b.rooms, media_port=b_media, advertise=leg.address) as node_b,
        client(node_a, "ana") as ana,
        client(node_b, "bob") as bob,
    ):
        link(a, b, "r")
        await ana.publish(Noise())
        await bob.subscribe(video=1, audio=0)
        [transceiver] = bob.down.getTransceivers()
        pairs = rtx_pairs(bob.down.remoteDescription.sdp)
        received = Received(transceiver.receiver.transport, pairs)
        async with asyncio.TaskGroup() as group:
            counting = group.create_task(bob.count())
            await eventually(lambda: None if bob.frames else "bob decodes nothing", timeout=15)
            leg.loss = LOSS  # after ICE and DTLS, which have their own patience
            await asyncio.sleep(SECONDS)
            counting.cancel()

        share, packets = received.share(next(iter(pairs.values())), tail=100)
        [status] = a.manager.links()
        dropped = leg.down.lost
        print(f"{share:.2%} of {packets}; trunk repaired {status.repaired}, leg lost {dropped}")  # noqa: T201
        assert packets > 500
        assert status.repaired > packets * LOSS / 2
        assert dropped > packets * LOSS / 2
        assert share >= 0.995
