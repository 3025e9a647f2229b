"""What a receiver knows of a stream: loss and jitter for report blocks, and the sender's clock.

RFC 3550, appendix A.3 (loss), A.8 (jitter) and section 6.4 (reports).
"""

from relay.core.gaps import MAX_GAP
from relay.core.round_trips import MAX_ROUND_TRIP_S
from relay.core.rtcp import ReportBlock, SenderReport
from relay.core.rtp import sequence_delta

ROUNDING = 66
"""In 1/65536 s: a millisecond, to which some clients round."""


class Reception:
    """Counts of one received stream."""

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._base = 0
        self._highest = -1
        self._received_before = 0
        self._expected_before = 0
        self._transit: float | None = None
        self._jitter = 0.0
        self._sr_middle = 0
        self._sr_at = 0.0
        self.received = 0
        """Packets, each counted once, repaired ones included."""
        self.repaired = 0
        """Those that came because they were asked for."""

    def packet(self, sequence: int, timestamp: int, now: float, *, repaired: bool) -> None:
        """Count a packet that was not here before; a repaired one says nothing about jitter."""
        self.received += 1
        if self._highest < 0:
            self._base = self._highest = sequence
        else:
            ahead = sequence_delta(sequence, self._highest & 0xFFFF)
            if abs(ahead) > MAX_GAP:  # a new beginning: what lies between was not lost
                ahead &= 0xFFFF
                self._base += ahead - 1
            if ahead > 0:
                self._highest += ahead
        if repaired:
            self.repaired += 1
            return
        transit = now * self._clock_rate - timestamp
        if self._transit is not None:
            change = abs(transit - self._transit)
            if change < self._clock_rate * 10:  # not a wrapped or restarted timestamp
                self._jitter += (change - self._jitter) / 16
        self._transit = transit

    def sender_report(self, report: SenderReport, now: float) -> None:
        """Note a sender report, which the next report block answers."""
        self._sr_middle, self._sr_at = report.middle, now

    @property
    def lost(self) -> int:
        """Packets missing since the beginning."""
        return max(0, self._highest - self._base + 1 - self.received) if self._highest >= 0 else 0

    def report_block(self, ssrc: int, now: float, *, with_repairs: bool = True) -> ReportBlock:
        """Return the block for this stream and begin the next interval.

        Repairs that come as RTX are another stream (RFC 4588) and do not count: `with_repairs` is False. A browser
        slows down by these figures, so they have to show what the path loses.
        """
        expected = self._highest - self._base + 1 if self._highest >= 0 else 0
        received = self.received if with_repairs else self.received - self.repaired
        interval_expected = expected - self._expected_before
        interval_lost = interval_expected - (received - self._received_before)
        self._expected_before, self._received_before = expected, received
        fraction = 0
        if interval_expected > 0 and interval_lost > 0:
            fraction = min(255, interval_lost * 256 // interval_expected)
        return ReportBlock(
            ssrc=ssrc,
            fraction_lost=fraction,
            lost=expected - received,
            highest=max(0, self._highest),
            jitter=int(self._jitter),
            last_sr=self._sr_middle,
            delay_since_sr=int((now - self._sr_at) * 65536) if self._sr_middle else 0,
        )


def round_trip_s(block: ReportBlock, ntp_now_s: float) -> float | None:
    """Return the round trip in seconds that a report block shows to the sender of the SR, or None.

    RFC 3550, section 6.4.1. The receiver says itself how long it held the report, so the figure is worth its word: one
    below zero, or above what a call could be held with, is none. A hair below zero is the rounding of two clocks.
    """
    if not block.last_sr:
        return None
    now = int(ntp_now_s * 65536) & 0xFFFFFFFF
    elapsed = (now - block.last_sr - block.delay_since_sr) & 0xFFFFFFFF
    if elapsed > 0xFFFFFFFF - ROUNDING:
        return 0.0
    return elapsed / 65536 if elapsed <= MAX_ROUND_TRIP_S * 65536 else None


class SenderTimeline:
    """Maps a publisher's NTP clock onto ours, once for all its tracks, so that lips stay in sync."""

    def __init__(self) -> None:
        self.offset_s: float | None = None
        """What to add to the publisher's NTP time to get ours."""

    def observe(self, ntp_s: float, ntp_now_s: float) -> None:
        """Fix the offset at the first report; a clock that jumps by more than a second is mapped anew."""
        offset = ntp_now_s - ntp_s
        if self.offset_s is None or abs(offset - self.offset_s) > 1.0:
            self.offset_s = offset


class TrackClock:
    """Maps our NTP time onto the RTP timestamps of one track, through its sender reports."""

    def __init__(self, timeline: SenderTimeline, clock_rate: int) -> None:
        self._timeline = timeline
        self._clock_rate = clock_rate
        self._report: SenderReport | None = None

    def sender_report(self, report: SenderReport, ntp_now_s: float) -> None:
        """Note a sender report of the track."""
        self._timeline.observe(report.ntp_s, ntp_now_s)
        self._report = report

    def timestamp_at(self, ntp_now_s: float) -> int | None:
        """Return the RTP timestamp (32 bits) of a moment of our clock, or None before the first report."""
        if self._report is None or self._timeline.offset_s is None:
            return None
        elapsed = ntp_now_s - self._timeline.offset_s - self._report.ntp_s
        return (self._report.timestamp + round(elapsed * self._clock_rate)) & 0xFFFFFFFF
