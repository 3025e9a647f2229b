"""One stream out of many tracks: to its receiver it never restarts, jumps back or repeats a number."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.gaps import MAX_GAP
from relay.core.outgoing import KEPT_SPANS, OutgoingStream
from relay.core.rtcp import SenderReport
from relay.core.rtp import FIXED_HEADER, parse, sequence_delta, sequence_of
from relay.core.track import Track
from tests.relay.packets import OPUS, VP8_DELTA, VP8_KEY, make_track, packet

SSRC, PAYLOAD_TYPE = 99, 120


@dataclass(eq=False)
class Viewer:
    """A sink that rewrites, as a slot does, and keeps what went out."""

    stream: OutgoingStream
    sent: list[bytes] = field(default_factory=list)
    showing: Track | None = None

    def show(self, track: Track | None) -> None:
        if self.showing is not None:
            self.showing.detach(self)
        self.stream.switch()
        self.showing = track
        if track is not None:
            track.attach(self)

    def forward(self, track: Track, packet: bytes, now: float) -> None:
        out = self.stream.rewrite(track, packet, PAYLOAD_TYPE, now)
        if out is not None:
            self.sent.append(out)

    @property
    def sequences(self) -> list[int]:
        return [sequence_of(one) for one in self.sent]


def viewer(*, sequence: int = 1000, timestamp: int = 5000, clock_rate: int = 90_000) -> Viewer:
    return Viewer(OutgoingStream(SSRC, clock_rate, sequence=sequence, timestamp=timestamp))


def timestamp_of(data: bytes) -> int:
    return int(FIXED_HEADER.unpack_from(data)[3])


def test_video_waits_for_a_key_frame_and_sound_does_not() -> None:
    video, sound = viewer(), viewer()
    camera, microphone = make_track("camera"), make_track("mic", OPUS)
    video.show(camera)
    sound.show(microphone)
    camera.receive(packet(10, payload=VP8_DELTA), 0.0)
    assert video.sent == []
    assert video.stream.waiting
    camera.receive(packet(11, payload=VP8_KEY), 0.0)
    camera.receive(packet(12, payload=VP8_DELTA), 0.0)
    microphone.receive(packet(7, payload=b"opus"), 0.0)
    assert video.sequences == [1000, 1001]
    assert sound.sequences == [1000]
    assert not video.stream.waiting


def test_only_the_header_is_new() -> None:
    one, track = viewer(), make_track()
    one.show(track)
    track.receive(packet(65_535, 4_294_967_295, VP8_KEY, marker=True, csrcs=(1, 2)), 0.0)
    header = parse(one.sent[0])
    assert header is not None
    assert header[:5] == (True, PAYLOAD_TYPE, 1000, 5000, SSRC)
    assert one.sent[0].endswith(VP8_KEY)


def test_a_switch_goes_on_where_the_last_track_stopped() -> None:
    one = viewer()
    ana, bob = make_track("ana"), make_track("bob")
    one.show(ana)
    ana.receive(packet(100, 0, VP8_KEY), 10.0)
    ana.receive(packet(101, 3000), 10.0)
    one.show(bob)
    bob.receive(packet(60_000, 77, VP8_DELTA), 10.4)
    bob.receive(packet(60_001, 3077, VP8_KEY), 10.5)
    assert one.sequences == [1000, 1001, 1002]
    assert [timestamp_of(p) for p in one.sent] == [5000, 8000, 8000 + 45_000]  # half a second


def test_late_packets_of_before_the_switch_are_dropped() -> None:
    one, ana = viewer(), make_track()
    one.show(ana)
    for sequence in (100, 101, 104):
        ana.receive(packet(sequence, 0, VP8_KEY), 0.0)
    one.show(None)
    one.show(ana)
    ana.receive(packet(105, 0, VP8_KEY), 0.0)
    ana.receive(packet(103), 0.0)
    assert one.sequences == [1000, 1001, 1004, 1005]


def test_a_reordered_packet_of_the_span_finds_its_place() -> None:
    one, ana = viewer(), make_track()
    one.show(ana)
    for sequence in (100, 102, 101, 103):
        ana.receive(packet(sequence, 0, VP8_KEY), 0.0)
    assert one.sequences == [1000, 1002, 1001, 1003]


def test_packets_are_resent_across_switches() -> None:
    one = viewer()
    tracks = [make_track(str(n)) for n in range(KEPT_SPANS + 1)]
    for number, track in enumerate(tracks):
        one.show(track)
        track.receive(packet(number * 10_000, number, VP8_KEY), float(number))
        track.receive(packet(number * 10_000 + 1, number), float(number))
    assert [one.stream.resend(s) for s in one.sequences[2:]] == one.sent[2:]
    assert one.stream.resend(one.sequences[0]) is None  # its span is no longer kept
    assert one.stream.resend(one.sequences[-1] + 1) is None  # was never sent


def test_a_packet_that_was_repaired_after_a_switch_is_resent_from_the_cache() -> None:
    one, ana, bob = viewer(), make_track("ana"), make_track("bob")
    one.show(ana)
    ana.receive(packet(100, 0, VP8_KEY), 0.0)
    ana.receive(packet(102), 0.0)
    one.show(bob)
    bob.receive(packet(5, 0, VP8_KEY), 0.0)
    ana.receive(packet(101, 0, b"\x10\x01repaired"), 0.1, repaired=True)
    repair = one.stream.resend(1001)
    assert repair is not None
    assert repair.endswith(b"repaired")
    assert sequence_of(repair) == 1001
    assert one.stream.resend(1003) == one.sent[-1]


def test_a_track_may_be_shown_for_many_rounds_of_the_circle() -> None:
    """Neither forwarding nor repair stops when numbers are half a circle away from where the span began."""
    one, ana = viewer(), make_track()
    one.show(ana)
    ana.receive(packet(0, 0, VP8_KEY), 0.0)
    for sequence in range(1, 34_000):
        ana.receive(packet(sequence & 0xFFFF), 0.0)
        if sequence % 1000 == 0:
            assert one.stream.resend(one.sequences[-5]) == one.sent[-5]
    assert one.sequences == [(1000 + n) & 0xFFFF for n in range(34_000)]


def test_a_jump_of_the_track_is_a_switch() -> None:
    """A publisher that restarts its numbers does not make ours jump."""
    for jump in (MAX_GAP + 1, 30_000):
        one, ana = viewer(), make_track()
        one.show(ana)
        ana.receive(packet(40_000, 0, VP8_KEY), 0.0)
        ana.receive(packet(40_000 + jump, 9), 0.5)
        assert one.stream.waiting
        ana.receive(packet(40_001 + jump, 10, VP8_KEY), 1.0)
        ana.receive(packet(40_002 + jump, 11), 1.0)
        assert one.sequences == [1000, 1001, 1002]
        assert [timestamp_of(p) for p in one.sent] == [5000, 95_000, 95_001]


class Sender:
    """A publisher whose packets get lost, overtake each other and are repaired."""

    def __init__(self, name: str, sequence: int) -> None:
        self.track = make_track(name)
        self._sequence = sequence
        self._lost: list[bytes] = []

    def _next(self, now: float, key: bool) -> bytes:
        self._sequence += 1
        return packet(self._sequence, int(now * 90_000), VP8_KEY if key else VP8_DELTA)

    def send(self, now: float, key: bool) -> None:
        self.track.receive(self._next(now, key), now)

    def lose(self, now: float, key: bool) -> None:
        self._lost.append(self._next(now, key))

    def swap(self, now: float, key: bool) -> None:
        first, second = self._next(now, key), self._next(now, False)
        self.track.receive(second, now)
        self.track.receive(first, now)

    def repair(self, now: float, key: bool) -> None:
        del key
        if self._lost:
            self.track.receive(self._lost.pop(), now, repaired=True)


SHOW = -1
steps = st.lists(
    st.tuples(
        st.sampled_from([SHOW, Sender.send, Sender.lose, Sender.swap, Sender.repair]),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=120,
)


@settings(deadline=None)
@given(steps, st.lists(st.integers(0, 0xFFFF), min_size=3, max_size=3), st.integers(0, 0x7FFF))
def test_any_interleaving_yields_one_consistent_stream(
    script: list[tuple[Any, int, bool]], begins: list[int], first: int
) -> None:
    """Each packet has its own number; a switch never goes back; what is asked again comes again unchanged."""
    one = viewer(sequence=first)
    senders = [Sender(str(n), begin) for n, begin in enumerate(begins)]
    switches = set()
    for step, (action, which, key) in enumerate(script):
        if action == SHOW:
            switches.add(len(one.sent))
            one.show(senders[which].track)
        else:
            action(senders[which], step / 100, key)
    assert len(set(one.sequences)) == len(one.sent)
    highest = (first - 1) & 0xFFFF
    for index, sequence in enumerate(one.sequences):
        ahead = sequence_delta(sequence, highest)
        assert ahead == 1 or index not in switches
        highest = sequence if ahead > 0 else highest
    assert all(one.stream.resend(sequence_of(sent)) in (None, sent) for sent in one.sent)


@given(st.floats(-1e6, 1e6), st.integers(0, 2**32 - 1), st.floats(0, 100))
def test_a_sender_report_maps_our_clock_onto_the_outgoing_timestamps(
    clocks_apart: float, base: int, elapsed: float
) -> None:
    one, ana = viewer(), make_track()
    one.show(ana)
    ntp_now = 3.9e9
    assert one.stream.sender_report(ntp_now) is None
    ana.receive(packet(1, base, VP8_KEY), 0.0)
    assert one.stream.sender_report(ntp_now) is None  # the publisher has not told its clock yet
    ana.sender_report(SenderReport(7, ntp_now - clocks_apart, base, 1, 1), 0.0, ntp_now)
    report = one.stream.sender_report(ntp_now + elapsed)
    assert report is not None
    assert (report.ssrc, report.packets, report.ntp_s) == (SSRC, 1, ntp_now + elapsed)
    expected = 5000 + round(elapsed * 90_000)
    assert -90 <= report.timestamp - expected <= 90  # a millisecond
    assert report.octets == len(one.sent[0]) - 12
