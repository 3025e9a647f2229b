"""What a node and the control plane tell each other, in core terms; the wire form is node.proto.

Everything is complete in itself: a report is the node's whole state, a snapshot its whole orders. Losing
one costs time, never truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from controlplane.core.model import (
    NodeId,
    ParticipantId,
    RegionId,
    RoomId,
    TrackStatus,
    TurnServer,
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


@dataclass(frozen=True, slots=True)
class LinkReport:
    """One direction of one room to another node, as its sending end sees it."""

    room: RoomId
    to_node: NodeId
    state: str
    """"connecting", "up" or "down"."""
    tracks: tuple[str, ...] = ()


class LinkFigures(NamedTuple):
    """What links have carried since they were opened, in packets: columns with a figure for each link.

    Columns, because objects for each link of a large fleet keep Python's cycle collector busy.
    """

    packets: Sequence[int] = ()
    """Sent, without repairs."""
    repaired: Sequence[int] = ()
    """Sent again because the far end asked."""
    lost: Sequence[int] = ()
    """Reported missing, and never got."""


NO_FIGURES = LinkFigures()


@dataclass(frozen=True, slots=True)
class PeerRtt:
    """A measured round trip to another node."""

    node: NodeId
    region: RegionId
    rtt_ms: float
    """Smallest of the last samples."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The complete state of a node.

    Who reads reports may compare `participants` and `links` with those of the report before: while nothing changes
    they are the same objects, and comparing costs nothing.
    """

    sequence: int
    load: float
    """Fraction of the capacity in use; more than 1 when overloaded."""
    participants: tuple[ParticipantReport, ...] = ()
    links: tuple[LinkReport, ...] = ()
    rtts: tuple[PeerRtt, ...] = ()
    """To the nodes that the snapshot asks for."""
    client_rtts: Sequence[float] = ()
    """For each participant the smallest of the last round trips to the client in milliseconds, 0 while unknown; empty
    when nothing is known of anybody."""
    link_figures: LinkFigures = NO_FIGURES
    """In the order of the links; empty when nothing is known."""


# --- to the node --------------------------------------------------------------------------------


class LinkSpec(NamedTuple):
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
class TurnSecret:
    """A shared secret of the region's TURN servers and the control plane."""

    value: str = field(repr=False)
    not_after: int
    """Seconds since 1970; no credential that it signed is good after this."""


@dataclass(frozen=True, slots=True)
class TurnOrders:
    """Everything that a TURN server beside a node has to know to serve without asking anybody."""

    realm: str
    secrets: tuple[TurnSecret, ...]
    """Each by which a credential may be signed now or soon."""
    peers: tuple[str, ...]
    """IP addresses that it may relay to: those of the region's nodes."""
    servers: tuple[TurnServer, ...]
    """The region's, as clients are told of them."""
    transports: tuple[str, ...]
    """"udp", "tcp", "tls"."""


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
    control_planes: tuple[str, ...] = ()
    """Where the replicas that live answer NodeService, as host:port."""
    turn: TurnOrders | None = None
    """None when the region has no TURN server, or no secret is configured."""
