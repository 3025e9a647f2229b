"""What leaves by a trunk: one packet for each sequence number, whatever the publisher does."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from relay.core.gaps import MAX_GAP
from relay.core.model import Codec, MediaKind, TrackInfo
from relay.core.reception import SenderTimeline
from relay.core.rtp import parse, sequence_of
from relay.core.track import Track
from relay.trunk.stream import TrunkStream


class Nobody:
    def request_keyframe(self, track: Track) -> None:
        pass

    def demand_changed(self, track: Track) -> None:
        pass


class Outlet:
    """A Sink that unwraps the trunk's numbers as SRTP does (RFC 3711, section 3.3.1)."""

    def __init__(self) -> None:
        self.stream = TrunkStream(7, 97)
        self.sent: dict[int, bytes] = {}
        """Packet index → packet."""
        self.highest: int | None = None

    def forward(self, _track: Track, packet: bytes, _now: float) -> None:
        out = self.stream.rewrite(packet)
        if out is not None:
            assert self.index(out) not in self.sent, "one nonce for two packets"
            self.sent[self.index(out)] = out
            self.highest = max(self.index(out), self.highest or 0)

    def index(self, out: bytes) -> int:
        if self.highest is None:
            return 0x10000 + sequence_of(out)
        return self.highest + (sequence_of(out) - self.highest + 0x8000) % 0x10000 - 0x8000


def new_track() -> Track:
    info = TrackInfo("t", "r", "ana", MediaKind.VIDEO, Codec("vp8", 90_000), "a")
    return Track(info, 1, SenderTimeline(), Nobody())


def packet(sequence: int, content: int = 0) -> bytes:
    return struct.pack("!BBHIII", 0x80, 100, sequence & 0xFFFF, 1000 + content, 1, content)


steps = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([-MAX_GAP - 1, -MAX_GAP, MAX_GAP, MAX_GAP + 1, 30_000, 40_000]),
    st.just("pause"),
)


@given(st.integers(0, 0xFFFF), st.lists(steps, max_size=120))
def test_no_number_goes_out_for_two_packets(start: int, moves: list[int | str]) -> None:
    track, outlet = new_track(), Outlet()
    track.attach(outlet)
    sequence = start
    for content, move in enumerate(moves):
        if isinstance(move, int):
            sequence += move
            track.receive(packet(sequence, content), now=0.0)
        else:
            track.detach(outlet)
            outlet.stream.pause()
            track.attach(outlet)
        for index in list(outlet.sent)[-20:]:
            repair = outlet.stream.resend(track, index & 0xFFFF)
            assert repair is None or repair == outlet.sent[index]


def test_the_first_number_is_far_from_a_wrap() -> None:
    """Who misses 65535 and begins with 0 counts one wrap less than the sender, and could open nothing any more."""
    for first in (0, 0x7FFF, 0x8000, 0xFFFF):
        stream = TrunkStream(7, 97)
        outs = [stream.rewrite(packet(first + step)) for step in range(1000)]
        headers = [parse(out) for out in outs if out is not None]
        assert [h.sequence for h in headers if h is not None] == [
            (first & 0x7FFF) + step for step in range(1000)
        ]
        assert headers[0] is not None
        assert (headers[0].timestamp, headers[0].ssrc, headers[0].payload_type) == (1000, 7, 97)


def test_a_restarted_publisher_goes_on_without_a_jump() -> None:
    stream = TrunkStream(7, 97)
    numbers = []
    for sequence in (10, 11, 12, 50_000, 50_001):
        out = stream.rewrite(packet(sequence))
        assert out is not None
        numbers.append(sequence_of(out))
    assert numbers == [10, 11, 12, 13, 14]


def test_more_packets_than_numbers() -> None:
    stream = TrunkStream(7, 97)
    for sequence in range(150_000):
        out = stream.rewrite(packet(sequence))
        assert out is not None
        assert sequence_of(out) == sequence & 0xFFFF
    assert stream.packets == 150_000


def test_reordered_packets_keep_their_numbers_and_repeats_are_dropped() -> None:
    stream = TrunkStream(7, 97)
    outs = [stream.rewrite(packet(sequence)) for sequence in (5, 8, 6, 6, 8, 4, 7)]
    assert [None if out is None else sequence_of(out) for out in outs] == [
        5, 8, 6, None, None, None, 7,
    ]  # fmt: skip


def test_repairs_come_from_the_current_stretch_only() -> None:
    track, outlet = new_track(), Outlet()
    track.attach(outlet)
    track.receive(packet(100), now=0.0)
    assert outlet.stream.resend(track, 100) == outlet.sent[0x10000 + 100]
    assert outlet.stream.resend(track, 99) is None
    assert outlet.stream.resend(track, 101) is None
    outlet.stream.pause()
    assert outlet.stream.resend(track, 100) is None
    track.receive(packet(101), now=0.0)
    assert outlet.stream.resend(track, 100) is None
    assert outlet.stream.resend(track, 101) is not None
