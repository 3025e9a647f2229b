"""The nouns of a node: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class MediaKind(StrEnum):
    """What a track carries."""

    AUDIO = "audio"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Codec:
    """How a payload is coded; what SDP says in rtpmap and fmtp."""

    name: str
    """Encoding name in lower case: "vp8", "h264", "opus"."""
    clock_rate: int
    """Hz."""
    channels: int = 0
    """0 for video."""
    fmtp: str = ""


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """A published track, wherever its publisher is."""

    id: str
    """Unique within the room."""
    room: str
    participant: str
    kind: MediaKind
    codec: Codec
    origin_node: str
    """Where the publisher is."""
    hops: int = 0
    """Trunks that the packets have crossed to get here."""


AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
VIDEO_ORIENTATION = "urn:3gpp:video-orientation"
ABS_CAPTURE_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

EXTENSION_IDS: Mapping[str, int] = MappingProxyType(
    {AUDIO_LEVEL: 1, VIDEO_ORIENTATION: 2, ABS_CAPTURE_TIME: 3}
)
"""Header extensions that survive a hop, by URI, and the id that they have inside a node and on its trunks.
The others are about one hop (transport-cc, abs-send-time) or one session (mid) and end here."""


def extension_map(from_ids: Mapping[str, int], to_ids: Mapping[str, int]) -> bytes:
    """Return the 16 bytes for `rtp.remap_extensions` that turn the ids of one side (by URI) into the other's."""
    table = bytearray(16)
    for uri, old in from_ids.items():
        new = to_ids.get(uri, 0)
        if 1 <= old <= 14 and 1 <= new <= 14:
            table[old] = new
    return bytes(table)
