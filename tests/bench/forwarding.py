"""What one outgoing packet costs: our raw-byte path against aiortc's parse, serialise and protect."""

import os

from aiortc.rtp import HeaderExtensionsMap, RtpPacket
from pylibsrtp import Policy, Session

from relay.core.model import EXTENSION_IDS, Codec, MediaKind, TrackInfo, extension_map
from relay.core.outgoing import OutgoingStream
from relay.core.reception import SenderTimeline
from relay.core.rtp import FIXED_HEADER, remap_extensions
from relay.core.track import Track
from relay.transport.srtp import Profile, SrtpContext
from tests.bench.turns import medians

PACKETS = 2000
PAYLOAD = 1100  # bytes, as a video packet of a browser


class _Source:
    def request_keyframe(self, track: Track) -> None:
        pass

    def demand_changed(self, track: Track) -> None:
        pass


def _packets() -> list[bytes]:
    # As a browser sends them: mid (4), abs-send-time (2) and transport-cc (3), none of which survives a hop.
    extension = bytes.fromhex("bede0003") + bytes.fromhex(
        "4030 22000000 31 0001 000000".replace(" ", "")
    )
    body = bytes([0x10]) + bytes(PAYLOAD)  # VP8: start of a key frame
    return [
        FIXED_HEADER.pack(0x90, 96, sequence, 3000 * sequence, 7) + extension + body
        for sequence in range(PACKETS)
    ]


def report() -> str:
    """Return the figures in a line."""
    packets = _packets()
    arrived = [remap_extensions(packet, extension_map({}, EXTENSION_IDS)) for packet in packets]
    key = os.urandom(28)
    info = TrackInfo("t", "r", "p", MediaKind.VIDEO, Codec("vp8", 90_000), "n")
    track = Track(info, 7, SenderTimeline(), _Source())
    ids = extension_map(EXTENSION_IDS, {uri: n + 3 for uri, n in EXTENSION_IDS.items()})

    def ours() -> None:
        stream = OutgoingStream(9, 90_000, sequence=1, timestamp=1)
        srtp = SrtpContext(Profile.AEAD_AES_128_GCM, key, outbound=True)
        for packet in arrived:
            out = stream.rewrite(track, packet, 97, 0.0)
            assert out is not None
            srtp.protect(remap_extensions(out, ids))

    def aiortc() -> None:
        policy = Policy(
            key, Policy.SSRC_ANY_OUTBOUND, srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_128_GCM
        )
        policy.allow_repeat_tx = True
        session = Session(policy)
        extensions = HeaderExtensionsMap()
        for packet in packets:
            parsed = RtpPacket.parse(packet, extensions)
            parsed.ssrc, parsed.payload_type = 9, 97
            session.protect(parsed.serialize(extensions))

    cost = medians({"ours": ours, "aiortc": aiortc}, per_round=PACKETS)
    return (
        f"forwarding, per outgoing packet without the send: ours {cost['ours']:.2f} µs, "
        f"aiortc's path {cost['aiortc']:.2f} µs, ratio {cost['ours'] / cost['aiortc']:.2f}"
    )
