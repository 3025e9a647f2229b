"""What a node and the control plane tell each other, in core terms; the wire form is node.proto.

Everything is complete in itself: a report is the node's whole state, a snapshot its whole orders. Losing
one costs time, never truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.core.model import (
    NodeId,
    ParticipantId,
    RegionId,
    RoomId,
    TrackStatus,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A UDP address."""

    host: str
    port: int


# --- from the node ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeHello:
    """Who the node is and where it is reached; its identity is already checked against its certificate."""

    node: NodeId
    region: RegionId
    http_url: str
    """Base of its WHIP and WHEP URLs, without a slash at the end."""
    media: Endpoint
    trunk_target: str
    """Its TrunkService, as host:port."""
    capacity: int
    """Participants that it admits at most; more than 0."""
    version: str
    engine: str
    kept_snapshot: int = 0
    """Version of the last snapshot that it applied and kept; 0 for none."""


@dataclass(frozen=True, slots=True)
class ParticipantReport:
    """One participant's session on the node."""

    room: RoomId
    participant: ParticipantId
    epoch: int
    """Of the assignment that its token carried."""
    tracks: tuple[TrackStatus, ...] = ()
    slots: int = 0
    """Slots that it receives into; 0 when it only publishes."""
    rtt_ms: float | None = None
    """Smallest of the last round trips to the client, measured by the node; None while unknown."""


@dataclass(frozen=True, slots=True)
class LinkReport:
    """One direction of one room to another node, as its sending end sees it."""

    room: RoomId
    to_node: NodeId
    state: str
    """"connecting", "up" or "down"."""
    tracks: tuple[str, ...] = ()
    packets: int = 0
    repaired: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class PeerRtt:
    """A measured round trip to another node."""

    node: NodeId
    region: RegionId
    rtt_ms: float
    """Smallest of the last samples."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The complete state of a node."""

    sequence: int
    load: float
    """Fraction of the capacity in use; more than 1 when overloaded."""
    participants: tuple[ParticipantReport, ...] = ()
    links: tuple[LinkReport, ...] = ()
    rtts: tuple[PeerRtt, ...] = ()


# --- to the node --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class LinkSpec:
    """One direction of one room between two nodes: the unit of a cascade."""

    room: RoomId
    from_node: NodeId
    to_node: NodeId


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """Another node, as this one has to know it: to open a trunk, or to measure the round trip."""

    node: NodeId
    region: RegionId
    trunk_target: str
    media: Endpoint


@dataclass(frozen=True, slots=True)
class EndSession:
    """A session that belongs elsewhere now, and why."""

    room: RoomId
    participant: ParticipantId
    epoch: int
    """Sessions with this epoch or a lower one end."""
    reason: str


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """The whole desired state of one node."""

    version: int
    """Grows with every change of the content; the same content keeps its version."""
    links: tuple[LinkSpec, ...] = ()
    """Links that the node takes part in, as sender or receiver."""
    peers: tuple[PeerSpec, ...] = ()
    """The nodes that the links lead to, and those to measure."""
    token_keys: Mapping[str, bytes] = field(default_factory=dict)
    """kid → raw Ed25519 public key."""
    draining: bool = False
    end_sessions: tuple[EndSession, ...] = ()
    report_interval_ms: int = 500
