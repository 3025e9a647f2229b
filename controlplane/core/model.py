"""The nouns of the control plane: frozen values that decisions read and return.

Rules of this file:

1. Nothing here does anything: no method changes a value or looks outside.
2. Times are seconds of one clock that the caller names `now` (wall time, so that replicas agree).
3. A field with a unit or a rule says so in the string below it.
4. What a decision makes by the dozen is a named tuple: it is made in a third of the time of a frozen dataclass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import NamedTuple, NewType

RegionId = NewType("RegionId", str)
NodeId = NewType("NodeId", str)
RoomId = NewType("RoomId", str)
ParticipantId = NewType("ParticipantId", str)


@dataclass(frozen=True, slots=True)
class Location:
    """A point on the globe, and how sure somebody is of it."""

    lat: float
    """Degrees, -90 to 90."""
    lon: float
    """Degrees, -180 to 180."""
    radius_km: float | None = None
    """Accuracy radius as a GeoIP database states it; None for a place that is simply known."""
    country_only: bool = False
    """The database knew the country and no more: the point stands for all of it, and `radius_km` covers it."""


# --- topology: what operators write -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnServer:
    """A TURN server (RFC 8656) beside the nodes of a region."""

    host: str
    port: int = 3478
    tls_port: int = 443
    """Who needs TLS is behind a firewall that lets nothing but the web through."""


@dataclass(frozen=True, slots=True)
class Region:
    """A place with nodes."""

    id: RegionId
    title: str
    location: Location
    residency: frozenset[str] = frozenset()
    """Tags that a join may require."""
    provider: str | None = None
    desired_nodes: int = 1
    node_capacity: int = 400
    """Participants that a node of this region takes, unless the node says less."""
    turn_servers: tuple[TurnServer, ...] = ()
    turn_transports: tuple[str, ...] = ("udp", "tcp", "tls")


@dataclass(frozen=True, slots=True)
class LinkSeed:
    """What an operator declares about the path between two regions, in both directions."""

    between: tuple[RegionId, RegionId]
    rtt_ms: float | None = None
    cost_per_gb: float | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """Addresses that belong to a region whatever a GeoIP database says; the longest prefix wins."""

    cidr: IPv4Network | IPv6Network
    region: RegionId


@dataclass(frozen=True, slots=True)
class Policy:
    """The knobs of placement."""

    edge_weight: float = 0.2
    """How much a millisecond of access round trip (what a NACK costs) counts beside one of delay. With 0 everybody is
    pulled into one SFU and a tenth of the edges are over 100 ms; with 0.3 half a percent of mean delay more is paid for
    half a point of edges less than with 0.2 (docs/decisions/0007)."""
    rehome_gain_ms: float = 3.0
    """A participant is moved only when the mean delay of the room falls by at least this."""
    rehomes_per_room: int = 6
    """People of one room who may be moved for a better place within a minute."""
    rehomes_per_fleet: int = 600
    """The same over all rooms: each of them makes a new connection."""
    probe_regions: int = 3
    """Regions that the first client of a room is asked to measure; who joins others may be asked for two more, and is
    mostly asked for fewer (core/probes.py)."""


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """Everything that operators declare, already checked for consistency; hashed by identity, to keep figures by it."""

    regions: Mapping[RegionId, Region]
    links: tuple[LinkSeed, ...] = ()
    overrides: tuple[Override, ...] = ()
    policy: Policy = field(default_factory=Policy)


# --- nodes: what registers itself ---------------------------------------------------------------


class NodeState(StrEnum):
    """The life of a node as the control plane sees it; core/liveness.py has the transitions."""

    JOINING = "joining"
    """Connected, first report still missing: takes nobody."""
    SERVING = "serving"
    DRAINING = "draining"
    """Keeps whom it has, takes nobody new."""
    SUSPECT = "suspect"
    """Its session broke or a report is overdue: takes nobody new, keeps whom it has for now."""
    LOST = "lost"
    """Its participants are placed elsewhere."""


@dataclass(frozen=True, slots=True)
class Node:
    """One edge SFU process, as of its last report."""

    id: NodeId
    region: RegionId
    http_url: str
    """Base of its WHIP and WHEP URLs."""
    media_host: str
    media_port: int
    trunk_target: str
    """Its TrunkService, as host:port."""
    capacity: int
    engine: str
    version: str
    state: NodeState
    heard_at: float
    registered_at: float
    load: float = 0.0
    """Fraction of the capacity in use at the last report (core/load.py, `reported_load`)."""
    participants: int = 0
    """Sessions at the last report."""
    why: str = ""
    """Why it is in this state, for people."""
    replica: str = ""
    """The control plane replica that hears it, and that judges its silence."""
    rtts: Mapping[RegionId, float] = field(default_factory=dict)
    """Round trips to other regions in milliseconds: of each the smallest that the node measured lately."""


@dataclass(frozen=True, slots=True)
class Drain:
    """An operator's wish that a node becomes empty."""

    deadline_at: float
    """From then on everybody who is left is moved at once."""
    reason: str
    pace: float | None = None
    """People a second who are moved before the deadline; None for nobody."""
    done: bool = False
    """It was said that the node is empty."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of the control plane."""

    id: str
    heard_at: float
    target: str = ""
    """Where nodes reach its gRPC server, as host:port; empty until it listens."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One direction of a room between two nodes, as the sending node reports it."""

    room: RoomId
    from_node: NodeId
    to_node: NodeId
    state: str
    """"wanted" (no report yet), "connecting", "up" or "down"."""
    tracks: tuple[str, ...] = ()
    packets: int = 0
    repaired: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class TrackStatus:
    """A track that a participant publishes, as its node reports it."""

    id: str
    kind: str
    """"audio" or "video"."""
    codec: str


# --- joins --------------------------------------------------------------------------------------


class Role(StrEnum):
    """What a participant does in a room."""

    PUBLISHER = "publisher"
    """Sends and receives."""
    VIEWER = "viewer"
    """Only receives."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """Hard rules of one join."""

    residency: frozenset[str] = frozenset()
    """Tags that the region must carry, all of them."""
    regions: frozenset[RegionId] = frozenset()
    """Regions to choose from; empty for all."""


@dataclass(frozen=True, slots=True)
class Join:
    """A request for a place, with ids already checked (see core/ids.py)."""

    room: RoomId
    participant: ParticipantId
    session: str
    """Chosen by the caller: the same session gets the same assignment again."""
    client_ip: str | None = None
    probes: Mapping[RegionId, tuple[float, ...]] = field(default_factory=dict)
    """Round trips in milliseconds, by region, one per sample."""
    role: Role = Role.PUBLISHER
    require: Requirements = field(default_factory=Requirements)
    exclude_nodes: frozenset[NodeId] = frozenset()


class RttSource(StrEnum):
    """Where an estimate comes from, best first."""

    SESSION = "session"
    """The edge measured it in this participant's own call."""
    PROBE = "probe"
    """The client measured it before it joined."""
    LEARNED = "learned"
    """From calls of the same network."""
    VIA_MESH = "via-mesh"
    """Through a measured region and the known SFU-SFU round trip."""
    OVERRIDE = "override"
    """The operator's CIDR override says so."""
    GEO = "geo"
    """Distance model from a GeoIP location."""
    UNKNOWN = "unknown"
    """Nothing is known; the same guess for every region."""


class RttEstimate(NamedTuple):
    """Round trip between a client and a region."""

    rtt_ms: float
    spread_ms: float
    """One standard deviation of what the truth may be."""
    source: RttSource
    age_s: float = 0.0


class Candidate(NamedTuple):
    """One region that was considered, with the best of its nodes, and what became of it."""

    region: RegionId
    node: NodeId | None
    """The node that would take the participant; None when the region is refused."""
    rtt: RttEstimate
    score: float | None
    """Milliseconds of cost, lower is better; None when refused."""
    terms: Mapping[str, float]
    """What the score is made of, in milliseconds: "delay", "edge", "load"."""
    refusal: str | None = None
    """Why not, in a sentence that begins with the rule's name; None when it was eligible."""
    refused: Mapping[NodeId, str] = MappingProxyType({})
    """Nodes of the region that may not take the participant, each with its sentence."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Why somebody sits where they sit."""

    node: NodeId
    region: RegionId
    because: tuple[str, ...]
    """Sentences for people, the most important first."""
    candidates: Sequence[Candidate]
    """Every region that has nodes, the best first."""
    fallbacks: tuple[NodeId, ...]
    """At most two, the best first; in other regions where possible."""
    decided_at: float
    location: Location | None = None
    location_source: str = "unknown"
    others: int = 0
    """People who were in the room already."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A participant's place: the lease that the store keeps."""

    room: RoomId
    participant: ParticipantId
    session: str
    role: Role
    node: NodeId
    region: RegionId
    epoch: int
    """Grows with each assignment of this participant, never goes back."""
    assigned_at: float
    expires_at: float
    """The lease's end; a repeated join and the node's reports push it forward."""
    decision: Decision
    rtts: Mapping[RegionId, RttEstimate]
    """What is known of the participant's round trips; later decisions of the room read it."""
    require: Requirements = field(default_factory=Requirements)
    tracks: tuple[TrackStatus, ...] = ()
    """What the node says the participant publishes."""
    live: bool = False
    """The node has reported the session."""
    moved_at: float | None = None
    """When the participant was last moved for a better place; None for never."""
    network: str = ""
    """The client's network (its /24 or /48), by which round trips are learned; empty when unknown."""
    unreachable: frozenset[NodeId] = frozenset()
    """Nodes that the client asked not to use, or passed over for a fallback. No move for a better place leads there; a
    move that has to be does only when no other node will do."""


@dataclass(frozen=True, slots=True)
class Room:
    """Who sits where; the unit that decisions look at."""

    id: RoomId
    assignments: Mapping[ParticipantId, Assignment]


# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for signalling servers and operators."""

    id: str
    """What Last-Event-ID repeats; its form is the store's own."""
    type: str
    """participant.assigned, participant.moved, participant.ended, node.ready, node.lost, node.drained,
    node.draining, fleet.frozen, fleet.thawed, cascade.changed, topology.changed."""
    at: float
    data: Mapping[str, object]
