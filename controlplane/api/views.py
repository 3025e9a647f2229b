"""What callers get back, and how it is made of the core's values."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from controlplane.core.explain import runner_up
from controlplane.core.identity import Caller
from controlplane.core.model import Assignment, Candidate, Decision, Location, TrackStatus
from controlplane.core.sums import access_rtt
from controlplane.services.answers import (
    IceServer,
    Joined,
    NodeAddress,
    ProbeTarget,
    ProbeTargets,
    Seat,
)


def rounded(ms: float) -> float:
    """Return milliseconds as they are told: to the microsecond, which nobody measures."""
    return round(ms, 3)


class View(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Place(View):
    """A point on the globe."""

    lat: float
    lon: float
    radius_km: float | None = Field(
        description="How far the truth may be away; null if simply known."
    )

    @classmethod
    def of(cls, location: Location | None) -> "Place | None":
        """Return the view of a location."""
        if location is None:
            return None
        return cls(lat=location.lat, lon=location.lon, radius_km=location.radius_km)


class Track(View):
    """A track that a participant publishes."""

    id: str
    kind: str
    codec: str

    @classmethod
    def of(cls, track: TrackStatus) -> "Track":
        """Return the view of a track."""
        return cls(id=track.id, kind=track.kind, codec=track.codec)


class Address(View):
    """A node as a client needs it."""

    id: str
    region: str
    whip_url: str = Field(description="POST an offer here to publish (RFC 9725).")
    whep_url: str = Field(description="POST an offer here to play.")

    @classmethod
    def of(cls, node: NodeAddress) -> "Address":
        """Return the view of a node's address."""
        return cls(id=node.id, region=node.region, whip_url=node.whip_url, whep_url=node.whep_url)


class StunServer(View):
    """An entry of RTCConfiguration.iceServers without credentials."""

    urls: list[str]


class TurnServer(View):
    """An entry of RTCConfiguration.iceServers with credentials."""

    urls: list[str]
    username: str
    credential: str


def ice_server(server: IceServer) -> StunServer | TurnServer:
    """Return the view of an ICE server; absent credentials stay absent, as RTCIceServer wants it."""
    urls = list(server.urls)
    if server.username is None or server.credential is None:
        return StunServer(urls=urls)
    return TurnServer(urls=urls, username=server.username, credential=server.credential)


class Fallback(Address):
    """Another node that the token is good for."""

    ice_servers: list[StunServer | TurnServer] = Field(
        description="For RTCPeerConnection with this node, instead of the assignment's: TURN relays within its region."
    )

    @classmethod
    def of(cls, node: NodeAddress) -> "Fallback":
        """Return the view of a fallback."""
        servers = [ice_server(server) for server in node.ice_servers]
        return cls(**Address.of(node).model_dump(), ice_servers=servers)


class RunnerUp(View):
    """The best other region, with its best node."""

    node: str | None
    region: str
    score_gap_ms: float = Field(
        description="How much worse, in milliseconds of cost. Negative for somebody who was moved for the others' sake."
    )

    @classmethod
    def of(cls, decision: Decision) -> "RunnerUp | None":
        """Return the view of a decision's runner-up; None when no other region could take the participant."""
        found = runner_up(decision)
        if found is None:
            return None
        other, gap = found
        return cls(node=other.node, region=other.region, score_gap_ms=rounded(gap))


class ShortDecision(View):
    """Why this node, in short; …/decision has all of it."""

    because: list[str]
    rtt_ms: float = Field(description="Estimated round trip between client and node.")
    rtt_source: str
    runner_up: RunnerUp | None

    @classmethod
    def of(cls, assignment: Assignment) -> "ShortDecision":
        """Return the short form of the decision behind an assignment."""
        decision, rtt = assignment.decision, access_rtt(assignment)
        return cls(
            because=list(decision.because),
            rtt_ms=rounded(rtt.rtt_ms),
            rtt_source=rtt.source,
            runner_up=RunnerUp.of(decision),
        )


class JoinedView(View):
    """Where the participant goes."""

    room: str
    participant: str
    session: str
    role: str
    epoch: int = Field(description="Grows with each assignment of this participant.")
    node: Address
    token: str = Field(description="Bearer token for the node and its fallbacks (EdDSA JWT).")
    token_expires_at: float = Field(description="Seconds since 1970: the time to first use.")
    ice_servers: list[StunServer | TurnServer] = Field(description="For RTCPeerConnection.")
    fallbacks: list[Fallback] = Field(description="At most two; the token is good for them too.")
    expires_at: float = Field(
        description="End of the lease; joining again or connecting renews it."
    )
    degraded: bool = Field(
        description="The state that replicas share is out of reach, and this one answered from what it knows."
    )
    decision: ShortDecision

    @classmethod
    def of(cls, joined: Joined, caller: Caller) -> "JoinedView":
        """Return the caller's view of an answer to a join."""
        lease = joined.assignment
        return cls(
            room=caller.shown(lease.room),
            participant=lease.participant,
            session=lease.session,
            role=lease.role,
            epoch=lease.epoch,
            node=Address.of(joined.node),
            token=joined.token,
            token_expires_at=joined.token_expires_at,
            ice_servers=[ice_server(server) for server in joined.ice_servers],
            fallbacks=[Fallback.of(node) for node in joined.fallbacks],
            expires_at=lease.expires_at,
            degraded=joined.degraded,
            decision=ShortDecision.of(lease),
        )


class SeatView(View):
    """Where a participant sits, and what it publishes."""

    room: str
    participant: str
    session: str
    role: str
    epoch: int
    node: Address
    fallbacks: list[Address]
    expires_at: float
    decision: ShortDecision
    live: bool = Field(description="The node has seen the participant.")
    tracks: list[Track]

    @classmethod
    def of(cls, seat: Seat, caller: Caller) -> "SeatView":
        """Return the caller's view of a seat."""
        lease = seat.assignment
        return cls(
            room=caller.shown(lease.room),
            participant=lease.participant,
            session=lease.session,
            role=lease.role,
            epoch=lease.epoch,
            node=Address.of(seat.node),
            fallbacks=[Address.of(node) for node in seat.fallbacks],
            expires_at=lease.expires_at,
            decision=ShortDecision.of(lease),
            live=lease.live,
            tracks=[Track.of(track) for track in lease.tracks],
        )


class CandidateView(View):
    """One region that was considered."""

    region: str
    node: str | None = Field(description="The best of its nodes; null if refused.")
    rtt_ms: float
    spread_ms: float
    rtt_source: str
    rtt_age_s: float
    score: float | None = Field(
        description="Milliseconds of cost, lower is better; null if refused."
    )
    terms: Mapping[str, float] = Field(description="What the score is made of.")
    refusal: str | None = Field(description="Why not; null if it was eligible.")
    refused: Mapping[str, str] = Field(
        description="Nodes of the region that were refused, and why."
    )

    @classmethod
    def of(cls, candidate: Candidate) -> "CandidateView":
        """Return the view of a candidate."""
        return cls(
            node=candidate.node,
            region=candidate.region,
            rtt_ms=rounded(candidate.rtt.rtt_ms),
            spread_ms=rounded(candidate.rtt.spread_ms),
            rtt_source=candidate.rtt.source,
            rtt_age_s=candidate.rtt.age_s,
            score=None if candidate.score is None else rounded(candidate.score),
            terms={term: rounded(value) for term, value in candidate.terms.items()},
            refusal=candidate.refusal,
            refused={str(node): why for node, why in candidate.refused.items()},
        )


class ProbeRegion(View):
    """A region to measure."""

    region: str
    title: str
    url: str = Field(description="GET it and time the answer; it is empty (204).")
    stun: str = Field(description="The same over UDP (RFC 7064).")
    why: str

    @classmethod
    def of(cls, target: ProbeTarget) -> "ProbeRegion":
        """Return the view of a target."""
        return cls(
            region=target.region,
            title=target.title,
            url=target.url,
            stun=target.stun,
            why=target.why,
        )


class ProbePlanAnswer(View):
    """The regions that this client should measure, the most telling first."""

    regions: list[ProbeRegion]
    more: list[ProbeRegion] = Field(
        description="To be measured too when the smallest round trip to `regions` is above `more_above_ms`."
    )
    more_above_ms: float | None = Field(description="Null when there is no more to measure.")
    location: Place | None = Field(description="Where the client seems to be.")
    location_source: str

    @classmethod
    def of(cls, plan: ProbeTargets) -> "ProbePlanAnswer":
        """Return the view of a probe plan."""
        return cls(
            regions=[ProbeRegion.of(target) for target in plan.regions],
            more=[ProbeRegion.of(target) for target in plan.more],
            more_above_ms=None if plan.more_above_ms is None else rounded(plan.more_above_ms),
            location=Place.of(plan.location),
            location_source=plan.location_source,
        )


class Health(View):
    """A sign of life."""

    status: Literal["ok", "ready", "degraded"] = Field(
        description='"degraded": joins are answered from what this replica knows, and shared when Redis is back.'
    )


class ProblemEntry(BaseModel):
    """One of several things that are wrong."""

    model_config = ConfigDict(extra="allow")

    loc: list[str | int] = Field(description="Where: a path into the body, or file, line, column.")
    msg: str


class Problem(BaseModel):
    """A problem document (RFC 9457); it may have further members."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="https://thalweg.dev/problems/CODE")
    title: str
    status: int
    detail: str = Field(description="What is wrong with this request.")
    code: str = Field(description="Stable: switch on it.")
    hint: str | None = Field(default=None, description="What to do next.")
    errors: list[ProblemEntry] | None = None
