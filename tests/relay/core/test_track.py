"""A track: packets in once, repaired, out to every sink; requests from below end here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keyframes import PLI_INTERVAL_S
from relay.core.model import AUDIO_LEVEL, EXTENSION_IDS
from tests.relay.packets import (
    OPUS,
    VP8_DELTA,
    VP8_KEY,
    Collector,
    Upstream,
    make_track,
    one_byte_extension,
    packet,
)


def test_every_sink_gets_every_packet_and_none_twice() -> None:
    track, one, two = make_track(), Collector(), Collector()
    track.attach(one)
    track.attach(two)
    track.attach(two)
    first, second = packet(1), packet(2)
    assert track.receive(first, 0.0)
    assert not track.receive(first, 0.0)
    assert track.receive(second, 0.0)
    assert one.packets == two.packets == [first, second]


def test_a_repaired_packet_reaches_the_sinks_and_the_cache() -> None:
    track, sink = make_track(), Collector()
    track.attach(sink)
    track.receive(packet(1), 0.0)
    track.receive(packet(3), 0.0)
    repaired = packet(2, payload=b"\x10\x01late")
    assert track.receive(repaired, 0.1, repaired=True)
    assert not track.receive(repaired, 0.1, repaired=True)
    assert sink.packets == [packet(1), packet(3), repaired]
    assert track.packet(2) == repaired
    assert track.report_block(0.2).lost == 0


@given(st.binary(max_size=40))
def test_malformed_packets_go_nowhere(data: bytes) -> None:
    track, sink = make_track(), Collector()
    track.attach(sink)
    if not track.receive(data, 0.0):
        assert sink.packets == []


def test_a_detached_sink_gets_nothing_more() -> None:
    track, sink = make_track(), Collector()
    track.attach(sink)
    track.detach(sink)
    track.detach(sink)
    track.receive(packet(1), 0.0)
    assert sink.packets == []
    assert not track.wanted


def test_demand_is_told_exactly_at_the_first_and_after_the_last_sink() -> None:
    upstream = Upstream()
    track, one, two = make_track(upstream=upstream), Collector(), Collector()
    track.detach(one)
    track.attach(one)
    track.attach(one)
    track.attach(two)
    track.detach(one)
    assert upstream.demand == [True]
    track.detach(two)
    assert upstream.demand == [True, False]
    track.attach(one)
    assert upstream.demand == [True, False, True]


def test_key_frame_requests_are_merged() -> None:
    upstream = Upstream()
    track = make_track(upstream=upstream)
    for ms in range(0, 400, 10):
        track.request_keyframe(ms / 1000)
        track.tick(ms / 1000)
    assert upstream.keyframes == 1
    track.tick(PLI_INTERVAL_S)
    track.tick(PLI_INTERVAL_S + 0.01)
    assert upstream.keyframes == 2  # those that were held back, as one


def test_a_key_frame_that_arrives_answers_the_requests_that_were_held_back() -> None:
    upstream = Upstream()
    track = make_track(upstream=upstream)
    track.request_keyframe(0.0)
    track.request_keyframe(0.1)
    track.receive(packet(1, payload=VP8_DELTA), 0.2)
    track.receive(packet(2, payload=VP8_KEY), 0.2)
    track.tick(1.0)
    assert upstream.keyframes == 1
    track.request_keyframe(1.1)
    assert upstream.keyframes == 2


def test_sound_has_no_key_frames() -> None:
    upstream = Upstream()
    track = make_track(codec=OPUS, upstream=upstream)
    track.request_keyframe(0.0)
    track.tick(9.0)
    assert upstream.keyframes == 0


@pytest.mark.parametrize(("level", "speaks"), [(10, True), (127, False), (60, False)])
def test_who_is_loud_for_a_while_is_a_speaker(level: int, speaks: bool) -> None:
    track = make_track(codec=OPUS)
    block = one_byte_extension((EXTENSION_IDS[AUDIO_LEVEL], bytes([0x80 | level])))
    for index in range(20):
        track.receive(packet(index, payload=b"opus", extension=block), index / 50)
    assert (track.spoke_at > 0) is speaks


def test_a_single_click_is_no_speech() -> None:
    track = make_track(codec=OPUS)
    for index in range(20):
        level = 10 if index == 9 else 127
        block = one_byte_extension((EXTENSION_IDS[AUDIO_LEVEL], bytes([level])))
        track.receive(packet(index, payload=b"opus", extension=block), index / 50)
    assert track.spoke_at == float("-inf")


def test_sound_without_levels_is_no_speech_and_no_error() -> None:
    track = make_track(codec=OPUS)
    track.receive(packet(1, payload=b"opus"), 1.0)
    track.receive(packet(2, payload=b"opus", extension=one_byte_extension((9, b"x"))), 1.0)
    assert track.spoke_at == float("-inf")


def test_a_sender_is_told_what_the_path_loses_although_rtx_repairs_it() -> None:
    """RFC 4588: RTX is a stream of its own. A browser that is told of no loss never slows down."""
    track = make_track()
    for sequence in (1, 2, 4, 5, 6, 7, 8, 10):
        track.receive(packet(sequence), 0.0)
    for sequence in (3, 9):
        track.receive(packet(sequence), 0.1, repaired=True)
    block = track.report_block(0.2, with_repairs=False)
    assert (block.fraction_lost, block.lost) == (256 * 2 // 10, 2)
    track.receive(packet(11), 0.3)
    assert track.report_block(0.4, with_repairs=False).fraction_lost == 0
