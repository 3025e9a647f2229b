"""One slot of a subscriber: an m-line that shows one track after another."""

import secrets

from guard.buckets import TokenBucket
from relay.core import rtcp, rtp
from relay.core.model import EXTENSION_IDS, Codec, MediaKind, extension_map
from relay.core.outgoing import OutgoingStream
from relay.core.sdp import OfferedMedia
from relay.core.sdp_answer import AnsweredMedia, matching, supported
from relay.core.slots import SlotSpec
from relay.core.track import Track
from relay.engines.embedded.peer import Peer

CLOCK_RATES = {MediaKind.AUDIO: 48_000, MediaKind.VIDEO: 90_000}
"""Hz; every codec that the node forwards has the one of its kind."""


REPAIRS_PER_S = 1000.0
"""A stream of 10 Mbit/s that loses half. A NACK of 20 bytes may ask for 20 kB: more is somebody who plays."""

REPAIR_BURST = 500
"""As many as one NACK can name."""


class Slot:
    """Sends what its track brings, under its own SSRC: a Sink of tracks."""

    def __init__(self, media: OfferedMedia, peer: Peer, index: int) -> None:
        self.spec = SlotSpec(media.mid, MediaKind(media.kind))
        self.track: Track | None = None
        self.stream = OutgoingStream(
            secrets.randbits(32),
            CLOCK_RATES[self.spec.kind],
            # Below 2^15, so that a receiver's roll-over count is safe.
            sequence=secrets.randbits(15),
            timestamp=secrets.randbits(32),
        )
        self.resent = 0
        self._media = media
        self._peer = peer
        self._index = index
        self._repairs = TokenBucket(REPAIRS_PER_S, REPAIR_BURST)
        self._payload_type = 0
        self._rtx_ssrc = secrets.randbits(32)
        self._rtx_sequence = secrets.randbits(15)
        self._extension_map = extension_map(EXTENSION_IDS, media.extensions)

    def answered(self) -> AnsweredMedia:
        """Return the m-line of the answer: every codec that the client takes and some track may have."""
        accepted = [pt for pt, codec in self._media.codecs.items() if supported(codec)]
        extensions = {
            uri: number for uri, number in self._media.extensions.items() if uri in EXTENSION_IDS
        }
        has_rtx = any(pt in self._media.rtx for pt in accepted)
        return AnsweredMedia(
            offered=self._media,
            direction="sendonly",
            payload_types=accepted,
            extensions=extensions,
            ssrc=self.stream.ssrc,
            rtx_ssrc=self._rtx_ssrc if has_rtx else None,
            # The n-th slots of both kinds are one MediaStream, which browsers keep in sync.
            msid=f"thalweg-{self._index} slot-{self.spec.mid}",
        )

    def plays(self, codec: Codec) -> bool:
        """Tell whether the client takes this codec here."""
        return matching(self._media, codec) is not None

    def show(self, track: Track | None, now: float) -> None:
        """Show another track, or nothing."""
        if track is self.track:
            return
        if self.track is not None:
            self.track.detach(self)
        self.stream.switch()
        self.track = track
        if track is not None:
            self._payload_type = matching(self._media, track.info.codec) or 0
            track.attach(self)
            track.request_keyframe(now)

    def forward(self, track: Track, packet: bytes, now: float) -> None:
        """Send a packet of the track."""
        rewritten = self.stream.rewrite(track, packet, self._payload_type, now)
        if rewritten is not None:
            self._peer.send_rtp(rtp.remap_extensions(rewritten, self._extension_map))
        elif self.stream.waiting:
            track.request_keyframe(now)  # the request before, or its answer, may have been lost

    def resend(self, sequences: tuple[int, ...], now: float) -> None:
        """Answer a NACK from the cache, as RTX (RFC 4588) where the client takes it.

        What is not in the cache is on its way up the hop that lost it, and goes out when it comes.
        """
        for sequence in sequences:
            if not self._repairs.passes(now):
                return
            packet = self.stream.resend(sequence)
            if packet is None:
                continue
            self.resent += 1
            packet = rtp.remap_extensions(packet, self._extension_map)
            rtx = self._media.rtx.get(packet[1] & 0x7F)
            if rtx is not None:
                self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
                packet = rtp.wrap_rtx(packet, rtx, self._rtx_sequence, self._rtx_ssrc)
            self._peer.send_rtp(packet)

    def report(self, ntp_now_s: float, cname: str) -> None:
        """Send a sender report, if there is something to report."""
        report = self.stream.sender_report(ntp_now_s)
        if report is not None:
            compound = rtcp.sender_report(report) + rtcp.source_description(self.stream.ssrc, cname)
            self._peer.send_rtcp(compound)
