"""A WHIP session (RFC 9725): the tracks that one client publishes."""

import secrets
from collections.abc import Sequence

from relay.core import rtcp, rtp
from relay.core.model import (
    ABS_CAPTURE_TIME,
    AUDIO_LEVEL,
    EXTENSION_IDS,
    VIDEO_ORIENTATION,
    MediaKind,
    TrackInfo,
    extension_map,
)
from relay.core.reception import SenderTimeline
from relay.core.rooms import Rooms
from relay.core.sdp import Offer, OfferedMedia
from relay.core.sdp_answer import AnsweredMedia, supported
from relay.core.track import Track
from relay.engines.base import Identity
from relay.engines.embedded.peer import CNAME, Peer
from relay.errors import UnsupportedError
from relay.transport.clock import monotonic, ntp

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
_ACCEPTED_EXTENSIONS = (MID, AUDIO_LEVEL, VIDEO_ORIENTATION, ABS_CAPTURE_TIME)

REPORT_INTERVAL_S = 1.0
"""Between receiver reports: often enough for a sender's loss control, rare enough to cost nothing."""

DEFAULT_RTT_S = 0.1
"""Until a round trip is measured; libwebrtc assumes the same."""

MAX_BITRATE = 4_000_000
"""bit/s that a publisher is told it may send (REMB). Without any estimate Chromium stays below 300 kbit/s."""

MAX_STREAMS = 16
"""SSRCs that one session may bring: each of its tracks with a repair stream, and a few that changed."""


class _Lane:
    """One accepted m-line: its track and how its packets are recognised."""

    def __init__(self, media: OfferedMedia, payload_type: int, track: Track) -> None:
        self.media = media
        self.payload_type = payload_type
        self.rtx_payload_type = media.rtx.get(payload_type)
        self.track = track
        self.extension_map = extension_map(media.extensions, EXTENSION_IDS)
        self.nack = "nack" in media.feedback.get(payload_type, set())


class Publisher:
    """Terminates a publishing client: PeerHandler, and Upstream of its tracks."""

    def __init__(self, who: Identity, node: str, rooms: Rooms) -> None:
        self.who = who
        self._node = node
        self._rooms = rooms
        self._peer: Peer | None = None
        self._lanes: list[_Lane] = []
        self._streams: dict[int, _Lane] = {}
        """SSRC, of media and of repairs, → lane."""
        self._ssrc = secrets.randbits(32)
        self._report_at = 0.0

    @property
    def tracks(self) -> tuple[Track, ...]:
        """What the client publishes."""
        return tuple(lane.track for lane in self._lanes)

    def rtt_s(self, now: float) -> float | None:
        """Return the round trip to the client, None while it is unknown."""
        return None if self._peer is None else self._peer.rtt_s(now)

    def accept(self, offer: Offer) -> list[AnsweredMedia]:
        """Choose a codec for each m-line that sends.

        Raises `UnsupportedError` (`no_media_to_publish`, `unsupported_codec`).
        """
        timeline = SenderTimeline()
        answered = []
        sending = False
        for media in offer.media:
            if media.kind not in ("audio", "video") or media.rejected:
                answered.append(AnsweredMedia(media, "inactive"))
                continue
            sends = media.direction in ("sendonly", "sendrecv")
            sending = sending or sends
            chosen = next((pt for pt, codec in media.codecs.items() if supported(codec)), None)
            if not sends or chosen is None:
                answered.append(AnsweredMedia(media, "inactive"))
                continue
            self._lanes.append(self._lane(media, chosen, timeline))
            extensions = {
                uri: number
                for uri, number in media.extensions.items()
                if uri in _ACCEPTED_EXTENSIONS
            }
            answered.append(AnsweredMedia(media, "recvonly", [chosen], extensions))
        if not sending:
            raise UnsupportedError(
                "no_media_to_publish",
                "no audio or video m-line of the offer sends",
                "offer sendonly transceivers with the tracks to publish",
            )
        if not self._lanes:
            raise UnsupportedError(
                "unsupported_codec",
                "no m-line offers a codec that this node forwards",
                "offer VP8 or H264 (packetization-mode=1) for video and Opus for audio",
            )
        return answered

    def use(self, peer: Peer) -> None:
        """Take the transport that brings the packets."""
        self._peer = peer

    def close(self) -> None:
        """Withdraw the tracks."""
        self._rooms.remove(self.tracks)
        if self._peer is not None:
            self._peer.close()

    def tick(self, now: float) -> None:
        """Ask again for what is missing, and report."""
        peer = self._peer
        if peer is None or not peer.is_connected:
            return
        rtt = peer.rtt_s(now) or DEFAULT_RTT_S
        for lane in self._lanes:
            if lane.track.gaps:
                self._repair(peer, lane, now, rtt)
            lane.track.tick(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL_S
            self._report(peer, now)

    # --- PeerHandler -----------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """Offer the tracks to the room."""
        self._report_at = now
        self._rooms.add(self.tracks)

    def take_rtp(self, packet: bytes, now: float) -> None:
        """Give a packet to its track."""
        header = rtp.parse(packet)
        if header is None:
            return
        lane = self._streams.get(header.ssrc) or self._learn(header, packet)
        if lane is None:
            return
        repaired = header.payload_type == lane.rtx_payload_type
        if repaired:
            original = rtp.unwrap_rtx(packet, lane.payload_type, lane.track.ssrc)
            if original is None:
                return
            packet = original
        elif header.payload_type != lane.payload_type:
            return
        lane.track.receive(rtp.remap_extensions(packet, lane.extension_map), now, repaired=repaired)

    def take_rtcp(self, packets: list[rtcp.Packet], now: float) -> None:
        """Take the publisher's sender reports."""
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                lane = self._streams.get(packet.ssrc)
                if lane is not None and packet.ssrc == lane.track.ssrc:
                    lane.track.sender_report(packet, now, ntp())

    # --- Upstream --------------------------------------------------------------------------------

    def request_keyframe(self, track: Track) -> None:
        """Send a PLI."""
        if self._peer is not None:
            self._peer.send_rtcp(self._compound(rtcp.picture_loss(self._ssrc, track.ssrc)))

    def demand_changed(self, track: Track) -> None:
        """Start a new viewer with a key frame; a client goes on sending when nobody looks."""
        if track.wanted:
            track.request_keyframe(monotonic())

    # ---------------------------------------------------------------------------------------------

    def _lane(self, media: OfferedMedia, payload_type: int, timeline: SenderTimeline) -> _Lane:
        media_ssrcs = [ssrc for ssrc in media.ssrcs if ssrc not in media.rtx_ssrcs]
        kind = MediaKind(media.kind)
        info = TrackInfo(
            id=f"{self.who.participant}-{kind}-{secrets.token_hex(3)}",
            room=self.who.room,
            participant=self.who.participant,
            kind=kind,
            codec=media.codecs[payload_type],
            origin_node=self._node,
        )
        lane = _Lane(media, payload_type, Track(info, next(iter(media_ssrcs), 0), timeline, self))
        for ssrc in media.ssrcs[:2]:
            self._streams[ssrc] = lane
        return lane

    def _learn(self, header: rtp.RtpHeader, packet: bytes) -> _Lane | None:
        """Find the m-line of an SSRC that the SDP did not announce (RFC 9143, section 9.2): by MID, then by type."""
        if len(self._streams) >= MAX_STREAMS:
            return None
        fits = [
            lane
            for lane in self._lanes
            if header.payload_type in (lane.payload_type, lane.rtx_payload_type)
        ]
        for lane in fits:
            mid = lane.media.extensions.get(MID)
            if (mid, lane.media.mid.encode()) in list(rtp.extensions(packet)):
                return self._bind(lane, header)
        return self._bind(fits[0], header) if len(fits) == 1 else None

    def _bind(self, lane: _Lane, header: rtp.RtpHeader) -> _Lane:
        self._streams[header.ssrc] = lane
        if header.payload_type == lane.payload_type:
            lane.track.ssrc = header.ssrc
        return lane

    def _repair(self, peer: Peer, lane: _Lane, now: float, rtt: float) -> None:
        missing = lane.track.gaps.due(now, rtt)
        if missing and lane.nack:  # browsers repair no sound, but what comes late is welcome
            peer.send_rtcp(self._compound(rtcp.nack(self._ssrc, lane.track.ssrc, missing)))

    def _report(self, peer: Peer, now: float) -> None:
        blocks = [
            lane.track.report_block(now, with_repairs=False)
            for lane in self._lanes
            if lane.track.reception.received
        ]
        video = [lane.track.ssrc for lane in self._lanes if lane.track.info.kind is MediaKind.VIDEO]
        estimate = b""
        if video:
            estimate = rtcp.receiver_estimated_max_bitrate(self._ssrc, MAX_BITRATE, video)
        peer.send_rtcp(self._compound(estimate, blocks[:31]))

    def _compound(self, feedback: bytes, blocks: Sequence[rtcp.ReportBlock] = ()) -> bytes:
        """Return feedback behind what has to begin a compound (RFC 4585, section 3.1); not all know RFC 5506."""
        report = rtcp.receiver_report(self._ssrc, blocks)
        return report + rtcp.source_description(self._ssrc, CNAME) + feedback
