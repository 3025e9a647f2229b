"""What a publisher is told, without sockets."""

from typing import cast

from relay.core import rtcp
from relay.core.rooms import Rooms
from relay.core.sdp import parse_offer
from relay.engines.base import Identity
from relay.engines.embedded.peer import Peer
from relay.engines.embedded.publisher import Publisher
from tests.relay.core.offers import recorded
from tests.relay.packets import packet


class Told:
    """A transport that keeps the RTCP."""

    def __init__(self) -> None:
        self.is_connected = True
        self.rtcp: list[bytes] = []

    def rtt_s(self, now: float) -> float:
        del now
        return 0.05

    def send_rtcp(self, data: bytes) -> None:
        self.rtcp.append(data)


def test_everything_that_a_publisher_is_told_is_a_whole_compound() -> None:
    told = Told()
    publisher = Publisher(Identity("r", "ana", 1, True), "n1", Rooms())
    line = publisher.accept(parse_offer(recorded("chromium-publish")))[1]
    publisher.use(cast(Peer, told))
    publisher.connected(0.0)
    [video] = [track for track in publisher.tracks if track.info.kind == "video"]
    for sequence in (1, 3):
        media = packet(sequence, payload_type=line.payload_types[0], ssrc=video.ssrc)
        publisher.take_rtp(media, 0.0)
    video.request_keyframe(0.0)
    publisher.tick(0.02)
    told_of = [rtcp.parse(data) for data in told.rtcp]
    assert {type(part) for parts in told_of for part in parts} == {
        rtcp.ReceiverReport, rtcp.KeyframeRequest, rtcp.Nack,
    }  # fmt: skip
    for data, parts in zip(told.rtcp, told_of, strict=True):
        assert isinstance(parts[0], rtcp.ReceiverReport)
        assert data[4 * (1 + int.from_bytes(data[2:4], "big")) + 1] == rtcp.SDES
