"""One outgoing RTP stream of a slot, which shows one track after another without the receiver noticing.

Sequence numbers and timestamps go on where the last track stopped (RFC 3550, section 7.1 asks a translator
for no less), so that nothing is renegotiated. Each stretch of one track is a span with fixed offsets;
the last spans are kept to answer NACKs for packets of the track before.
"""

from collections import deque
from dataclasses import dataclass

from relay.core.gaps import MAX_GAP
from relay.core.keyframes import begins_keyframe
from relay.core.model import MediaKind
from relay.core.rtcp import SenderReport
from relay.core.rtp import FIXED_HEADER, parse, sequence_delta, with_header
from relay.core.track import Track

KEPT_SPANS = 4
"""Switches that a late NACK can reach behind."""


@dataclass(slots=True)
class _Span:
    """A stretch of one track. Its sequence numbers do not wrap at 2^16: a track is shown for hours."""

    track: Track
    first: int
    """The track's number that began it."""
    highest: int
    """The track's highest number so far."""
    offset: int
    """What to add to get the outgoing number."""
    timestamp_offset: int
    payload_type: int


class OutgoingStream:
    """Rewrites packets of the current track into one continuous stream.

    `ssrc`, `sequence` and `timestamp` are where the stream begins, drawn by the caller (RFC 3550, section 5.1).
    """

    def __init__(self, ssrc: int, clock_rate: int, *, sequence: int, timestamp: int) -> None:
        self.ssrc = ssrc
        self.packets = 0
        """Sent, without repairs."""
        self.octets = 0
        self._clock_rate = clock_rate
        self._spans: deque[_Span] = deque(maxlen=KEPT_SPANS)
        self._current: _Span | None = None
        self._last_sequence = sequence - 1
        """Without the wrap at 2^16."""
        self._last_timestamp = timestamp
        self._last_at: float | None = None

    @property
    def waiting(self) -> bool:
        """Whether only a key frame can begin the next packets."""
        return self._current is None

    def switch(self) -> None:
        """End the current track; the next packet of a key frame begins the next one."""
        self._current = None

    def rewrite(self, track: Track, packet: bytes, payload_type: int, now: float) -> bytes | None:
        """Return the packet as it goes out, or None while the track waits for a key frame or it is too late.

        A jump that `Gaps` takes for a new beginning of the stream is a switch too.
        """
        _, _, sequence, timestamp, _ = FIXED_HEADER.unpack_from(packet)
        span = self._current
        ahead = 0 if span is None else sequence_delta(sequence, span.highest & 0xFFFF)
        if span is None or abs(ahead) > MAX_GAP:
            span = self._current = self._begin(track, packet, payload_type, now)
            if span is None:
                return None
            ahead = 0
        elif span.highest + ahead < span.first:
            return None
        span.highest += max(0, ahead)
        out = sequence + span.offset
        stamp = (timestamp + span.timestamp_offset) & 0xFFFFFFFF
        if ahead >= 0:
            self._last_sequence = span.highest + span.offset
            self._last_timestamp, self._last_at = stamp, now
        self.packets += 1
        self.octets += len(packet) - 12
        return with_header(packet, payload_type, out & 0xFFFF, stamp, self.ssrc)

    def resend(self, sequence: int) -> bytes | None:
        """Return a packet that went out under this sequence number, if it is still kept."""
        out = self._last_sequence + sequence_delta(sequence, self._last_sequence & 0xFFFF)
        if out > self._last_sequence:
            return None
        for span in reversed(self._spans):
            if out < span.first + span.offset:
                continue
            packet = span.track.packet((out - span.offset) & 0xFFFF)
            if packet is None:
                return None
            stamp = (FIXED_HEADER.unpack_from(packet)[3] + span.timestamp_offset) & 0xFFFFFFFF
            return with_header(packet, span.payload_type, sequence, stamp, self.ssrc)
        return None

    def sender_report(self, ntp_now_s: float) -> SenderReport | None:
        """Return the report for this moment, or None before packets flow and the track's clock is known."""
        if self._current is None or not self.packets:
            return None
        timestamp = self._current.track.clock.timestamp_at(ntp_now_s)
        if timestamp is None:
            return None
        stamp = (timestamp + self._current.timestamp_offset) & 0xFFFFFFFF
        return SenderReport(self.ssrc, ntp_now_s, stamp, self.packets, self.octets)

    def _begin(self, track: Track, packet: bytes, payload_type: int, now: float) -> _Span | None:
        header = parse(packet)
        if header is None:
            return None
        if track.info.kind is MediaKind.VIDEO:
            payload = packet[header.payload_start : header.payload_end]
            if not begins_keyframe(track.info.codec.name, payload):
                return None
        stamp = self._last_timestamp
        if self._last_at is not None:
            stamp += max(1, round((now - self._last_at) * self._clock_rate))
        span = _Span(
            track=track,
            first=header.sequence,
            highest=header.sequence,
            offset=self._last_sequence + 1 - header.sequence,
            timestamp_offset=(stamp - header.timestamp) & 0xFFFFFFFF,
            payload_type=payload_type,
        )
        self._spans.append(span)
        return span
