"""Loss, jitter and round trips as RFC 3550 counts them, and the senders' clocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.reception import Reception, SenderTimeline, TrackClock, round_trip_s
from relay.core.rtcp import (
    ReceiverReport,
    ReportBlock,
    SenderReport,
    parse,
    receiver_report,
    sender_report,
)


def test_the_fraction_and_the_sum_of_losses() -> None:
    reception = Reception(90_000)
    for sequence in (10, 11, 13, 14):  # 12 is missing: 1 of 5
        reception.packet(sequence, 0, 0.0, repaired=False)
    block = reception.report_block(7, 0.0)
    assert (block.fraction_lost, block.lost, block.highest) == (256 // 5, 1, 14)
    reception.packet(15, 0, 0.0, repaired=False)
    block = reception.report_block(7, 0.0)
    assert (block.fraction_lost, block.lost) == (0, 1)
    reception.packet(12, 0, 0.0, repaired=True)  # the repair makes the interval one packet too good
    block = reception.report_block(7, 0.0)
    assert (block.fraction_lost, block.lost) == (0, 0)


def test_the_highest_number_counts_the_cycles() -> None:
    reception = Reception(90_000)
    for step in range(200):
        reception.packet((65_500 + step) & 0xFFFF, 0, 0.0, repaired=False)
    block = reception.report_block(7, 0.0)
    assert block.highest == 65_500 + 199
    assert block.lost == 0


def test_nothing_received_reports_nothing_lost() -> None:
    block = Reception(90_000).report_block(7, 5.0)
    assert (block.fraction_lost, block.lost, block.highest, block.last_sr) == (0, 0, 0, 0)


@pytest.mark.parametrize("jump", [5000, 30_000, -5000, -30_000])
def test_a_new_beginning_of_the_stream_is_not_loss(jump: int) -> None:
    reception = Reception(90_000)
    for step in range(10):
        reception.packet(40_000 + step, 0, 0.0, repaired=False)
    for step in range(10):
        reception.packet((40_010 + jump + step) & 0xFFFF, 0, 0.0, repaired=False)
    block = reception.report_block(7, 0.0)
    assert (block.fraction_lost, block.lost) == (0, 0)
    assert block.highest & 0xFFFF == (40_019 + jump) & 0xFFFF


def test_jitter_follows_appendix_a_8() -> None:
    reception = Reception(8000)
    expected, transit_before = 0.0, None
    arrivals = [0.000, 0.021, 0.040, 0.065, 0.081, 0.100]
    for index, at in enumerate(arrivals):
        reception.packet(index, 160 * index, at, repaired=False)
        transit = at * 8000 - 160 * index
        if transit_before is not None:
            expected += (abs(transit - transit_before) - expected) / 16
        transit_before = transit
    assert reception.report_block(7, 1.0).jitter == int(expected)
    assert int(expected) > 0


def test_an_even_stream_has_no_jitter_even_when_timestamps_wrap() -> None:
    reception = Reception(90_000)
    for index in range(100):
        stamp = (2**32 - 10 * 3000 + index * 3000) & 0xFFFFFFFF
        reception.packet(index, stamp, index / 30, repaired=False)
    assert reception.report_block(7, 4.0).jitter == 0


def test_repaired_packets_say_nothing_about_jitter() -> None:
    reception = Reception(90_000)
    for index in range(10):
        reception.packet(index, index * 3000, index / 30, repaired=False)
        reception.packet(100 + index, index * 3000, index / 30 + 0.5, repaired=True)
    assert reception.report_block(7, 4.0).jitter == 0


@given(st.floats(1, 4e9), st.floats(0, 5), st.floats(0, 5), st.floats(-1e6, 1e6))
def test_the_round_trip_is_what_lies_between_report_and_answer(
    sent_ntp: float, rtt: float, held: float, clocks_apart: float
) -> None:
    """Ours sends a report, theirs holds it for a while and answers: only differences of clocks count."""
    [report] = parse(sender_report(SenderReport(1, sent_ntp, 0, 0, 0)))
    assert isinstance(report, SenderReport)
    theirs = Reception(90_000)
    theirs.sender_report(report, clocks_apart)
    answer = receiver_report(2, [theirs.report_block(1, clocks_apart + held)])
    [parsed] = parse(answer)
    assert isinstance(parsed, ReceiverReport)
    [block] = parsed.blocks
    measured = round_trip_s(block, sent_ntp + held + rtt)
    if report.middle:
        assert measured == pytest.approx(rtt, abs=1e-4)


def test_a_block_without_a_report_shows_no_round_trip() -> None:
    assert round_trip_s(ReportBlock(1, 0, 0, 0, 0, 0, 0), 5.0) is None


def test_a_clock_that_rounds_below_zero_shows_zero() -> None:
    assert round_trip_s(ReportBlock(1, 0, 0, 0, 0, 65_536 * 10, 65_536), 10.9995) == 0.0


@pytest.mark.parametrize("held", [65_536 * 2, 65_536 * 100, 0x80000000])
def test_a_receiver_that_says_it_held_the_report_longer_than_it_had_it_shows_nothing(
    held: int,
) -> None:
    assert round_trip_s(ReportBlock(1, 0, 0, 0, 0, 65_536 * 10, held), 11.9) is None


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1), st.floats(0, 5e9))
def test_whatever_a_receiver_says_a_round_trip_is_between_0_and_10_s(
    last_sr: int, held: int, ntp_now_s: float
) -> None:
    rtt = round_trip_s(ReportBlock(1, 0, 0, 0, 0, last_sr, held), ntp_now_s)
    assert rtt is None or 0 <= rtt <= 10


@given(
    st.floats(-1e6, 1e6),
    st.floats(0, 0.4),
    st.floats(0, 0.4),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
def test_two_tracks_of_one_publisher_stay_in_sync(
    clocks_apart: float, video_delay: float, audio_delay: float, video_base: int, audio_base: int
) -> None:
    """Their reports arrive with different delays; both still map one moment to the same media time."""
    timeline = SenderTimeline()
    video, audio = TrackClock(timeline, 90_000), TrackClock(timeline, 48_000)
    began, now = 3.9e9, 3.9e9 + 20.0

    def report(at: float, base: int, rate: int) -> SenderReport:
        stamp = (base + round((at - began) * rate)) & 0xFFFFFFFF
        return SenderReport(1, at - clocks_apart, stamp, 0, 0)

    video.sender_report(report(began + 1.0, video_base, 90_000), began + 1.0 + video_delay)
    audio.sender_report(report(began + 1.3, audio_base, 48_000), began + 1.3 + audio_delay)
    video.sender_report(report(began + 9.0, video_base, 90_000), began + 9.0 + audio_delay)
    stamps = video.timestamp_at(now), audio.timestamp_at(now)
    assert stamps[0] is not None
    assert stamps[1] is not None
    video_s = ((stamps[0] - video_base) & 0xFFFFFFFF) / 90_000
    audio_s = ((stamps[1] - audio_base) & 0xFFFFFFFF) / 48_000
    assert video_s == pytest.approx(audio_s, abs=0.001)


def test_a_clock_that_jumps_is_mapped_anew() -> None:
    timeline = SenderTimeline()
    timeline.observe(100.0, 1000.0)
    timeline.observe(101.5, 1001.0)
    assert timeline.offset_s == 900.0
    timeline.observe(500.0, 1002.0)
    assert timeline.offset_s == 502.0


def test_no_report_no_timestamp() -> None:
    assert TrackClock(SenderTimeline(), 90_000).timestamp_at(1.0) is None
