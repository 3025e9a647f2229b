"""What callers get back about rooms, nodes and the topology."""

from typing import Literal

from pydantic import ConfigDict, Field

from controlplane.api.views import Track, View, rounded
from controlplane.core.identity import Caller
from controlplane.core.model import Assignment
from controlplane.core.sums import access_rtt
from controlplane.services.fleet import NodeView
from controlplane.services.rooms import LinkView, RoomPage, RoomView
from controlplane.services.topologies import VersionedTopology


class Occupant(View):
    """One participant of a room."""

    participant: str
    role: str
    node: str
    region: str
    epoch: int
    live: bool
    rtt_ms: float
    rtt_source: str
    assigned_at: float
    tracks: list[Track]

    @classmethod
    def of(cls, lease: Assignment) -> "Occupant":
        """Return the view of an assignment, as a line of its room."""
        rtt = access_rtt(lease)
        return cls(
            participant=lease.participant,
            role=lease.role,
            node=lease.node,
            region=lease.region,
            epoch=lease.epoch,
            live=lease.live,
            rtt_ms=rounded(rtt.rtt_ms),
            rtt_source=rtt.source,
            assigned_at=lease.assigned_at,
            tracks=[Track.of(track) for track in lease.tracks],
        )


class Link(View):
    """One direction of the room between two nodes."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_by_name=True)

    from_node: str = Field(serialization_alias="from")
    to_node: str = Field(serialization_alias="to")
    from_region: str
    to_region: str
    state: Literal["wanted", "connecting", "up", "down"]
    tracks: list[str]
    packets: int
    repaired: int
    lost: int
    rtt_ms: float | None

    @classmethod
    def of(cls, link: LinkView) -> "Link":
        """Return the view of a link."""
        return cls.model_validate(
            {name: getattr(link, name) for name in cls.model_fields if name != "tracks"}
            | {"tracks": list(link.tracks)}
        )


class Cascade(View):
    """The links of a room."""

    links: list[Link]


class Delay(View):
    """Estimated one-way delay between publishers and receivers, in milliseconds; null without a pair."""

    mean_ms: float | None
    worst_ms: float | None


class RoomAnswer(View):
    """A room: who sits where, and the cascade."""

    id: str
    participants: list[Occupant]
    cascade: Cascade
    delay: Delay

    @classmethod
    def of(cls, room: RoomView, caller: Caller) -> "RoomAnswer":
        """Return the caller's view of a room."""
        return cls(
            id=caller.shown(room.id),
            participants=[Occupant.of(lease) for lease in room.participants],
            cascade=Cascade(links=[Link.of(link) for link in room.links]),
            delay=Delay(mean_ms=room.mean_ms, worst_ms=room.worst_ms),
        )


class RoomLine(View):
    """A room in the list."""

    id: str
    participants: int
    nodes: list[str]


class RoomList(View):
    """A page of rooms, in order of id."""

    rooms: list[RoomLine]
    next: str | None = Field(description="`after` of the next page; null on the last one.")

    @classmethod
    def of(cls, page: RoomPage, caller: Caller) -> "RoomList":
        """Return the caller's view of a page."""
        lines = [
            RoomLine(
                id=caller.shown(room.id), participants=room.participants, nodes=list(room.nodes)
            )
            for room in page.rooms
        ]
        after = None if page.next is None else caller.shown(page.next)
        return cls(rooms=lines, next=after)


class DrainView(View):
    """What an operator wants of a node."""

    reason: str
    deadline_in_s: float = Field(description="Seconds until everybody left is moved; 0 behind it.")
    pace: float | None = Field(description="People a second before that; null for nobody.")
    done: bool = Field(description="The node has been empty since.")


class NodeAnswer(View):
    """A node."""

    id: str
    region: str
    state: Literal["joining", "serving", "draining", "suspect", "lost"]
    why: str = Field(description="Why it is in this state.")
    load: float = Field(description="Fraction of the capacity in use at the last report.")
    participants: int
    capacity: int
    engine: str
    version: str
    http_url: str
    heard_age_s: float = Field(description="Seconds since it was heard.")
    drain: DrainView | None

    @classmethod
    def of(cls, view: NodeView) -> "NodeAnswer":
        """Return the view of a node."""
        node = view.node
        return cls(
            id=node.id,
            region=node.region,
            state=node.state.value,
            why=node.why,
            load=node.load,
            participants=node.participants,
            capacity=node.capacity,
            engine=node.engine,
            version=node.version,
            http_url=node.http_url,
            heard_age_s=round(view.heard_age_s, 3),
            drain=_drain(view),
        )


def _drain(view: NodeView) -> DrainView | None:
    drain = view.drain
    if drain is None:
        return None
    return DrainView(
        reason=drain.reason,
        deadline_in_s=round(view.drain_left_s or 0.0, 1),
        pace=drain.pace,
        done=drain.done,
    )


class NodeList(View):
    """All nodes, in order of id."""

    nodes: list[NodeAnswer]


class TopologyAnswer(View):
    """The topology that is in force now."""

    version: int
    regions: list[str]

    @classmethod
    def of(cls, topology: VersionedTopology) -> "TopologyAnswer":
        """Return the view of a topology."""
        return cls(version=topology.version, regions=sorted(topology.topology.regions))


class DisplacedView(View):
    """A participant whose region would go."""

    room: str
    participant: str
    region: str
