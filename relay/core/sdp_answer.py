"""SDP answers (RFC 9429): which codecs the node forwards, and its end of the transport."""

from dataclasses import dataclass, field

from relay.core.model import Codec
from relay.core.sdp import OfferedMedia, parameters

_SPELLING = {"vp8": "VP8", "h264": "H264"}
"""libwebrtc negotiates "vp8" and then encodes nothing: it creates encoders by the registered spelling."""


_CLOCK_RATES = {"vp8": 90_000, "h264": 90_000, "opus": 48_000}
"""Hz, of RFC 7741, 6184 and 7587: timestamps are carried over from track to track."""


def supported(codec: Codec) -> bool:
    """Tell whether the node forwards this codec."""
    if codec.clock_rate != _CLOCK_RATES.get(codec.name):
        return False
    # H264's mode 0 cannot carry what mode 1 sends.
    return codec.name != "h264" or parameters(codec.fmtp).get("packetization-mode") == "1"


def matching(media: OfferedMedia, codec: Codec) -> int | None:
    """Return the payload type under which the client takes packets of `codec`, or None.

    H264 has to agree in the profile (the first byte of profile-level-id) to be decoded for sure; a client that
    offers only other profiles of mode 1 gets the first of those, as decoders take more than they offer.
    """
    same = [
        pt for pt, other in media.codecs.items() if other.name == codec.name and supported(other)
    ]
    if codec.name == "h264":
        for pt in same:
            if _profile(media.codecs[pt]) == _profile(codec):
                return pt
    return same[0] if same else None


def _profile(codec: Codec) -> str:
    return parameters(codec.fmtp).get("profile-level-id", "42")[:2].lower()


@dataclass(slots=True)
class AnsweredMedia:
    """One m-line of an answer."""

    offered: OfferedMedia
    direction: str
    """"recvonly", "sendonly" or "inactive"; a rejected m-line has no payload types."""
    payload_types: list[int] = field(default_factory=list)
    """Media payload types that are accepted; their RTX comes along."""
    extensions: dict[str, int] = field(default_factory=dict)
    ssrc: int | None = None
    """What the node will send."""
    rtx_ssrc: int | None = None
    msid: str = ""


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """The node's end, the same for all m-lines of a session."""

    host: str
    port: int
    ice_ufrag: str
    ice_pwd: str
    fingerprint: str
    """SHA-256 of the certificate."""
    setup: str
    session_id: int
    cname: str


def answer(media: list[AnsweredMedia], local: LocalTransport) -> str:
    """Return the answer: ICE-lite (RFC 8445, section 2.5) with one host candidate, everything in one bundle."""
    version = 6 if ":" in local.host else 4
    accepted = [one.offered.mid for one in media if one.payload_types]
    lines = [
        "v=0",
        f"o=- {local.session_id} 1 IN IP{version} {local.host}",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        f"a=group:BUNDLE {' '.join(accepted)}",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS *",
    ]
    for one in media:
        lines += _answer_media(one, local, version) if one.payload_types else _reject(one)
    return "\r\n".join(lines) + "\r\n"


def _reject(media: AnsweredMedia) -> list[str]:
    protocol = "UDP/DTLS/SCTP webrtc-datachannel"
    if media.offered.kind in ("audio", "video"):
        protocol = "UDP/TLS/RTP/SAVPF 0"
    return [
        f"m={media.offered.kind} 0 {protocol}",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
        f"a=mid:{media.offered.mid}",
    ]


def _answer_media(media: AnsweredMedia, local: LocalTransport, version: int) -> list[str]:
    offered = media.offered
    formats = [
        pt for one in media.payload_types for pt in (one, offered.rtx.get(one)) if pt is not None
    ]
    lines = [
        f"m={offered.kind} {local.port} UDP/TLS/RTP/SAVPF {' '.join(map(str, formats))}",
        f"c=IN IP{version} {local.host}",
        f"a=mid:{offered.mid}",
        f"a={media.direction}",
        f"a=ice-ufrag:{local.ice_ufrag}",
        f"a=ice-pwd:{local.ice_pwd}",
        f"a=candidate:1 1 udp 2130706431 {local.host} {local.port} typ host",
        "a=end-of-candidates",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{local.setup}",
        "a=rtcp-mux",
    ]
    if offered.reduced_size:
        lines.append("a=rtcp-rsize")
    for pt in media.payload_types:
        lines += _answer_codec(offered, pt)
    lines += [f"a=extmap:{number} {uri}" for uri, number in media.extensions.items()]
    if media.ssrc is not None:
        lines.append(f"a=msid:{media.msid}")
        if media.rtx_ssrc is not None:
            lines.append(f"a=ssrc-group:FID {media.ssrc} {media.rtx_ssrc}")
        for ssrc in (media.ssrc, media.rtx_ssrc):
            if ssrc is not None:
                lines.append(f"a=ssrc:{ssrc} cname:{local.cname}")
                lines.append(f"a=ssrc:{ssrc} msid:{media.msid}")
    return lines


def _answer_codec(offered: OfferedMedia, pt: int) -> list[str]:
    codec = offered.codecs[pt]
    channels = f"/{codec.channels}" if codec.channels else ""
    name = _SPELLING.get(codec.name, codec.name)
    lines = [f"a=rtpmap:{pt} {name}/{codec.clock_rate}{channels}"]
    if codec.fmtp:
        lines.append(f"a=fmtp:{pt} {codec.fmtp}")
    known = {"nack", "nack pli", "ccm fir", "goog-remb"}
    lines += [f"a=rtcp-fb:{pt} {what}" for what in sorted(offered.feedback.get(pt, set()) & known)]
    if pt in offered.rtx:
        rtx = offered.rtx[pt]
        lines += [f"a=rtpmap:{rtx} rtx/{codec.clock_rate}", f"a=fmtp:{rtx} apt={pt}"]
    return lines
