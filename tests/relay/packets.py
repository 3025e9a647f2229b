"""RTP packets and tracks for tests."""

from dataclasses import dataclass, field

from relay.core.model import Codec, MediaKind, TrackInfo
from relay.core.reception import SenderTimeline
from relay.core.rtp import FIXED_HEADER
from relay.core.track import Track

VP8 = Codec("vp8", 90_000)
OPUS = Codec("opus", 48_000, 2)
H264 = Codec(
    "h264", 90_000, 0, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
)

VP8_KEY = b"\x10\x00" + b"key"
VP8_DELTA = b"\x10\x01" + b"delta"


def packet(
    sequence: int,
    timestamp: int = 0,
    payload: bytes = VP8_DELTA,
    *,
    payload_type: int = 96,
    ssrc: int = 7,
    marker: bool = False,
    csrcs: tuple[int, ...] = (),
    extension: bytes = b"",
    padding: int = 0,
) -> bytes:
    """Return an RTP packet; `extension` is the whole block with its profile and length."""
    first = 0x80 | len(csrcs) | (0x10 if extension else 0) | (0x20 if padding else 0)
    second = payload_type | (0x80 if marker else 0)
    head = FIXED_HEADER.pack(first, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    tail = bytes(padding - 1) + bytes([padding]) if padding else b""
    return head + b"".join(c.to_bytes(4, "big") for c in csrcs) + extension + payload + tail


def one_byte_extension(*values: tuple[int, bytes]) -> bytes:
    """Return a block of RFC 8285's one-byte form."""
    body = b"".join(bytes([number << 4 | len(value) - 1]) + value for number, value in values)
    body += bytes(-len(body) % 4)
    return b"\xbe\xde" + (len(body) // 4).to_bytes(2, "big") + body


@dataclass
class Upstream:
    """Notes what a track asks of its sender."""

    keyframes: int = 0
    demand: list[bool] = field(default_factory=list)

    def request_keyframe(self, track: Track) -> None:
        del track
        self.keyframes += 1

    def demand_changed(self, track: Track) -> None:
        self.demand.append(track.wanted)


@dataclass(eq=False)
class Collector:
    """A sink that keeps the packets."""

    packets: list[bytes] = field(default_factory=list)

    def forward(self, track: Track, packet: bytes, now: float) -> None:
        del track, now
        self.packets.append(packet)


def make_track(
    name: str = "t",
    codec: Codec = VP8,
    *,
    participant: str = "ana",
    upstream: Upstream | None = None,
    timeline: SenderTimeline | None = None,
) -> Track:
    """Return a track of a room "r"."""
    kind = MediaKind.AUDIO if codec.name == "opus" else MediaKind.VIDEO
    info = TrackInfo(name, "r", participant, kind, codec, "n1")
    return Track(info, 7, timeline or SenderTimeline(), upstream or Upstream())
