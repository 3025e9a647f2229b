"""What callers send, as strict models: HTTP bodies and queries, and gRPC requests by the same rules."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from controlplane.core.addresses import parse_address
from controlplane.core.ids import id_refusal, name_refusal, room_refusal
from controlplane.core.model import (
    Join,
    NodeId,
    ParticipantId,
    RegionId,
    Requirements,
    Role,
    RoomId,
)


def _id(text: str) -> str:
    return _accept(text, id_refusal(text))


def _room(text: str) -> str:
    return _accept(text, room_refusal(text))


def _name(text: str) -> str:
    return _accept(text, name_refusal(text))


def _accept(text: str, refusal: str | None) -> str:
    if refusal is not None:
        raise PydanticCustomError("bad_id", "{refusal}", {"refusal": refusal})
    return text


CallerId = Annotated[
    str,
    AfterValidator(_id),
    Field(
        description="1 to 128 unreserved characters (RFC 3986, section 2.3).",
        json_schema_extra={"pattern": "^[A-Za-z0-9._~-]{1,128}$"},
    ),
]
"""An id that the caller chooses: participant, session."""

ROOM_PATTERN = "^([a-z][a-z0-9-]{0,62}:)?[A-Za-z0-9._~-]{1,128}$"

RoomName = Annotated[
    str,
    AfterValidator(_room),
    Field(
        description="Room id, yours: 1 to 128 unreserved characters. Callers with the scope `admin` write "
        "`TENANT:ROOM` for rooms of other tenants.",
        json_schema_extra={"pattern": ROOM_PATTERN},
    ),
]
"""A room as the caller knows it; `Caller.room` makes its internal id of it."""

Name = Annotated[
    str,
    AfterValidator(_name),
    Field(
        description="1 to 63 of a-z, 0-9 and -; a letter first.",
        json_schema_extra={"pattern": "^[a-z][a-z0-9-]{0,62}$"},
    ),
]
"""An id that the operator chooses: node, region."""


def _is_address(text: str) -> str:
    if parse_address(text) is None:
        raise PydanticCustomError("bad_address", "this is no IPv4 or IPv6 address")
    return text


ClientIp = Annotated[
    str,
    AfterValidator(_is_address),
    Field(max_length=64, json_schema_extra={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]
"""An address in text form."""


def first_fault(what: str, error: ValidationError) -> str:
    """Return the first of pydantic's findings as a sentence."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{what}: {place}: {first['msg']}" if place else f"{what}: {first['msg']}"


class Strict(BaseModel):
    """Base of bodies: no unknown members, no guessing of types, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Query(BaseModel):
    """Base of query strings, where everything begins as text."""

    model_config = ConfigDict(extra="forbid")


class Probe(Strict):
    """A client's measurement of one region."""

    region: Name
    rtt_ms: list[Annotated[float, Field(gt=0, le=60_000)]] = Field(
        min_length=1, max_length=32, description="Round trips in milliseconds, one per sample."
    )


class Require(Strict):
    """Hard rules of a join."""

    residency: list[Annotated[str, Field(min_length=1, max_length=63)]] = Field(
        default_factory=list,
        max_length=32,
        description="Tags that the region has to carry, all of them.",
    )
    regions: list[Name] = Field(
        default_factory=list, max_length=200, description="Regions to choose from; empty for all."
    )


class JoinBody(Strict):
    """Ask for a place, or for the same answer again."""

    session: CallerId = Field(
        description="Chosen by you: the same session gets the same assignment again."
    )
    client_ip: ClientIp | None = Field(
        default=None, description="The client's address as your server sees it."
    )
    probes: list[Probe] = Field(
        default_factory=list,
        max_length=32,
        description="What the client measured, see /v1/probe-plans.",
    )
    role: Literal["publisher", "viewer"] = Field(
        default="publisher", description="A publisher sends and receives, a viewer only receives."
    )
    require: Require = Field(default_factory=Require)
    exclude_nodes: list[Name] = Field(
        default_factory=list,
        max_length=32,
        description="Nodes that must not be chosen, for example because the client could not reach them.",
    )

    def to_join(self, room: RoomId, participant: ParticipantId, client_ip: str | None) -> Join:
        """Return the core's request; `client_ip` is the address to believe. Samples of a region add up."""
        probes: dict[RegionId, tuple[float, ...]] = {}
        for probe in self.probes:
            region = RegionId(probe.region)
            probes[region] = (*probes.get(region, ()), *probe.rtt_ms)
        return Join(
            room=room,
            participant=participant,
            session=self.session,
            client_ip=client_ip,
            probes=probes,
            role=Role(self.role),
            require=Requirements(
                residency=frozenset(self.require.residency),
                regions=frozenset(RegionId(region) for region in self.require.regions),
            ),
            exclude_nodes=frozenset(NodeId(node) for node in self.exclude_nodes),
        )


class DecisionBody(Strict):
    """Ask where somebody would go, without joining."""

    client_ip: ClientIp | None = Field(default=None, description="The client's address.")
    room: RoomName | None = Field(
        default=None, description="The room to join; an empty one if left out."
    )
    role: Literal["publisher", "viewer"] = "publisher"
    probes: list[Probe] = Field(
        default_factory=list, max_length=32, description="What the client measured."
    )
    require: Require = Field(default_factory=Require)

    def to_join(self, room: RoomId | None, client_ip: str | None) -> Join:
        """Return the join that is decided on. Its participant is nobody's id, and so is a room that was left out."""
        asked = JoinBody(
            session="preview", probes=self.probes, role=self.role, require=self.require
        )
        return asked.to_join(room or RoomId(""), ParticipantId(""), client_ip)


class ProbePlanBody(Strict):
    """Ask which regions a client should measure."""

    client_ip: ClientIp | None = Field(
        default=None, description="The client's address as your server sees it."
    )
    room: RoomName | None = Field(
        default=None,
        description="Where it is going: then the regions that would suit that room are measured too.",
    )


class DrainBody(Strict):
    """Empty a node."""

    deadline_s: float = Field(
        default=600, ge=0, le=86_400, description="Seconds until those who are left are moved."
    )
    reason: str = Field(default="", max_length=200, description="For the people who wonder.")
    pace: float | None = Field(
        default=None,
        gt=0,
        le=800,
        description="People a second who are moved before the deadline; nobody if left out.",
    )


class DrainQuery(Query):
    """How to treat the drain."""

    dry_run: bool = Field(default=False, description="Say who would go where, change nothing.")


class RoomsQuery(Query):
    """Which part of the list."""

    after: RoomName | None = Field(default=None, description="`next` of the page before.")
    limit: int = Field(default=100, ge=1, le=1000, description="Rooms per page.")


class TopologyQuery(Query):
    """How to treat the new topology."""

    dry_run: bool = Field(default=False, description="Check and compare, change nothing.")


EVENT_ID = r"[0-9]{1,18}(-[0-9]{1,18})?(\.[0-9]{1,18}-[0-9]{1,18}){0,31}"
"""Ids of events are the store's: a number, or places in as many logs as the store has, which are 32 at most."""


class EventsQuery(Query):
    """Which events."""

    room: RoomName | None = Field(
        default=None,
        description="Only events of this room; those of nodes and the topology stay out.",
    )
    after: str | None = Field(
        default=None,
        pattern=f"^{EVENT_ID}$",
        description="Begin behind the event with this id; the header Last-Event-ID wins.",
    )
