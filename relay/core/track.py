"""A track on this node: packets come in once, are repaired, and go out to every sink that wants them.

The same for a track that a client publishes here and for one that a trunk brings: only the `Upstream` differs.
Rules:

1. A packet enters by `receive`, with header extensions already under their ids of `model.EXTENSION_IDS`.
2. A repaired packet is forwarded like any other, the moment it comes. So a NACK from below that finds nothing in
   the cache needs no bookkeeping: the answer is on its way.
3. NACKs and key frame requests from below end here; what goes up is this track's own.
"""

from typing import Protocol

from relay.core.cache import AUDIO_PACKETS, VIDEO_PACKETS, PacketCache
from relay.core.gaps import Gaps
from relay.core.keyframes import KeyframeThrottle, begins_keyframe
from relay.core.model import AUDIO_LEVEL, EXTENSION_IDS, MediaKind, TrackInfo
from relay.core.reception import Reception, SenderTimeline, TrackClock
from relay.core.rtcp import ReportBlock, SenderReport
from relay.core.rtp import extensions, parse

LOUD_DBOV = 40
"""RFC 6464 levels below this (0 is the loudest) are speech; a quiet room lies around 60 to 80."""

SPEECH_SHARE = 0.5
"""Share of loud packets, smoothed over about ten (200 ms of Opus), that makes somebody a speaker."""


class Sink(Protocol):
    """Something that takes a track's packets: a subscriber's slot, or a trunk."""

    def forward(self, track: "Track", packet: bytes, now: float) -> None:
        """Take one packet. Called in the order of arrival, which is not always the order of the stream."""
        ...


class Upstream(Protocol):
    """The way back to whoever sends the track."""

    def request_keyframe(self, track: "Track") -> None:
        """Ask for a key frame, now."""
        ...

    def demand_changed(self, track: "Track") -> None:
        """Note that the track got its first sink or lost its last."""
        ...


class Track:
    """One track: loss detection, cache, statistics and the fan-out."""

    def __init__(
        self, info: TrackInfo, ssrc: int, timeline: SenderTimeline, upstream: Upstream
    ) -> None:
        self.info = info
        self.ssrc = ssrc
        """Of the packets as they arrive."""
        self.gaps = Gaps()
        self.reception = Reception(info.codec.clock_rate)
        self.clock = TrackClock(timeline, info.codec.clock_rate)
        self.spoke_at = float("-inf")
        """When the participant was last heard speaking, if this is sound and levels are sent."""
        self._upstream = upstream
        self._video = info.kind is MediaKind.VIDEO
        self._cache = PacketCache(VIDEO_PACKETS if self._video else AUDIO_PACKETS)
        self._keyframes = KeyframeThrottle()
        self._sinks: tuple[Sink, ...] = ()
        self._loudness = 0.0

    def __repr__(self) -> str:
        return f"Track({self.info.id!r} of {self.info.participant!r} in {self.info.room!r})"

    @property
    def wanted(self) -> bool:
        """Whether anybody takes the packets."""
        return bool(self._sinks)

    def attach(self, sink: Sink) -> None:
        """Send every packet from now on to `sink`; twice is once."""
        if sink not in self._sinks:
            self._sinks = (*self._sinks, sink)
            if len(self._sinks) == 1:
                self._upstream.demand_changed(self)

    def detach(self, sink: Sink) -> None:
        """Send nothing more to `sink`."""
        if sink in self._sinks:
            self._sinks = tuple(other for other in self._sinks if other is not sink)
            if not self._sinks:
                self._upstream.demand_changed(self)

    def receive(self, packet: bytes, now: float, *, repaired: bool = False) -> bool:
        """Take a packet from upstream; return False if it is malformed or was here before."""
        header = parse(packet)
        if header is None or not self.gaps.received(header.sequence, now):
            return False
        self.reception.packet(header.sequence, header.timestamp, now, repaired=repaired)
        self._cache.put(packet)
        if self._video:
            payload = packet[header.payload_start : header.payload_start + 64]
            if begins_keyframe(self.info.codec.name, payload):
                self._keyframes.arrived()
        else:
            self._listen(packet, now)
        for sink in self._sinks:
            sink.forward(self, packet, now)
        return True

    def packet(self, sequence: int) -> bytes | None:
        """Return a packet that came lately."""
        return self._cache.get(sequence)

    def sender_report(self, report: SenderReport, now: float, ntp_now_s: float) -> None:
        """Note what the sender says of its clock."""
        self.reception.sender_report(report, now)
        self.clock.sender_report(report, ntp_now_s)

    def report_block(self, now: float, *, with_repairs: bool = True) -> ReportBlock:
        """Return what to tell the sender of this track's reception; see `Reception.report_block`."""
        return self.reception.report_block(self.ssrc, now, with_repairs=with_repairs)

    def request_keyframe(self, now: float) -> None:
        """Ask the sender for a key frame, merged with other requests; sound has none."""
        if self._video and self._keyframes.request(now):
            self._upstream.request_keyframe(self)

    def tick(self, now: float) -> None:
        """Pass on a key frame request that was held back and is due."""
        if self._keyframes.due(now):
            self._upstream.request_keyframe(self)

    def _listen(self, packet: bytes, now: float) -> None:
        for extension, value in extensions(packet):
            if extension == EXTENSION_IDS[AUDIO_LEVEL]:
                loud = value[0] & 0x7F < LOUD_DBOV
                self._loudness += (loud - self._loudness) / 10
                if self._loudness > SPEECH_SHARE:
                    self.spoke_at = now
                return
