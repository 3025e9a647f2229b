"""The nouns of trunks: frozen values, and what two nodes tell each other (trunk.proto) in plain form."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from relay.core.model import TrackInfo


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A UDP address; `host` is an IP address in text, shortest form."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of one room between two nodes."""

    room: str
    from_node: str
    to_node: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, as this one has to know it."""

    node: str
    region: str
    trunk_target: str
    """Its TrunkService, as host:port."""
    media: Endpoint | None
    """Where it answers STUN; None when it did not say."""


class TrunkState(StrEnum):
    """The life of a trunk; also of each link over it."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One direction of a room, as this node, its sending end, sees it."""

    room: str
    to_node: str
    state: TrunkState
    tracks: tuple[str, ...]
    """Ids of the tracks that flow now."""
    packets: int
    """Sent, without repairs."""
    repaired: int
    """Sent again because the far end asked."""
    lost: int
    """Reported missing by the far end, and never got there so far."""


@dataclass(frozen=True, slots=True)
class PeerRtt:
    """A measured round trip to another node."""

    node: str
    region: str
    rtt_ms: float


# --- what the ends of a trunk say ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """A track that the other end can send."""

    info: TrackInfo
    """As it is when it arrives: `hops` counts this trunk."""
    ssrc: int
    extensions: Mapping[str, int]
    """Header extension ids on the trunk, by URI."""


@dataclass(frozen=True, slots=True)
class RoomOffers:
    """All tracks of a room on offer."""

    room: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class RoomDemand:
    """The ids of all tracks of a room that are wanted."""

    room: str
    tracks: frozenset[str]


@dataclass(frozen=True, slots=True)
class RoomSpeakers:
    """The ids of the tracks in which somebody spoke just now."""

    room: str
    tracks: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ping:
    """A question for a sign of life."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer."""

    nonce: int


Message = RoomOffers | RoomDemand | RoomSpeakers | Ping | Pong


@dataclass(frozen=True, slots=True)
class OpenCall:
    """The caller's end of a new trunk, or the callee's answer to it."""

    endpoint: Endpoint
    """Where it receives."""
    send_key: bytes
    """32 bytes of master key and 12 of salt that protect what it sends."""


class TrunkError(Exception):
    """A trunk cannot be opened, or is over; the text says why."""
