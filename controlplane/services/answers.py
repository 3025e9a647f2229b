"""What callers are answered: addresses, tokens, ICE servers, the regions to measure. Decides nothing."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from controlplane.core.allocate import Refused
from controlplane.core.model import (
    Assignment,
    Decision,
    Location,
    Node,
    NodeId,
    Region,
    RegionId,
    Topology,
)
from controlplane.core.probes import PlannedProbe
from controlplane.core.rtt import Estimates
from controlplane.core.sums import Sums
from controlplane.core.tokens import TOKEN_TTL_S, audience, participant_claims
from controlplane.core.turn import signing_secret, turn_credential, turn_urls, turn_user
from controlplane.core.world import World
from controlplane.services.ports import TokenSigner, TurnKeeper
from controlplane.store.base import Admitted


@dataclass(frozen=True, slots=True)
class IceServer:
    """One entry of RTCConfiguration.iceServers (W3C WebRTC, 4.2.2)."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node as a client needs it."""

    id: NodeId
    region: RegionId
    whip_url: str
    """Where to publish (RFC 9725)."""
    whep_url: str
    """Where to play."""
    ice_servers: tuple[IceServer, ...] = ()
    """Of a fallback in the answer to a join: TURN servers relay to the nodes of their own region only."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a join."""

    assignment: Assignment
    created: bool
    """False when the same session already had this assignment."""
    degraded: bool
    """The other replicas do not know it (safely) yet: the state that they share is out of reach."""
    token: str = field(repr=False)
    """Compact JWS for the node and the fallbacks."""
    token_expires_at: float
    """Seconds since 1970; the time to first use."""
    ice_servers: tuple[IceServer, ...]
    """Empty when the region has no TURN server or no TURN secret is configured."""
    node: NodeAddress
    fallbacks: tuple[NodeAddress, ...]
    """At most two, the best first, each with ICE servers of its own."""


@dataclass(frozen=True, slots=True)
class Seat:
    """An assignment with the addresses that belong to it, for looking."""

    assignment: Assignment
    node: NodeAddress
    fallbacks: tuple[NodeAddress, ...]

    @classmethod
    def of(cls, assignment: Assignment, nodes: Mapping[NodeId, Node]) -> "Seat":
        """Return the assignment's seat; without URLs for the moment in which its node is already forgotten."""
        node = nodes.get(assignment.node)
        own = (
            _address(node, assignment)
            if node is not None
            else NodeAddress(assignment.node, assignment.region, "", "")
        )
        known = (nodes[id_] for id_ in assignment.decision.fallbacks if id_ in nodes)
        return cls(assignment, own, tuple(_address(one, assignment) for one in known))


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """One region to measure."""

    region: RegionId
    title: str
    url: str
    """GET it and time the answer: {http_url}/probe."""
    stun: str
    """stun:host:port (RFC 7064)."""
    why: str


@dataclass(frozen=True, slots=True)
class ProbeTargets:
    """What a client should measure before it joins."""

    regions: tuple[ProbeTarget, ...]
    more: tuple[ProbeTarget, ...]
    """To be measured too when the smallest round trip to `regions` is above `more_above_ms`."""
    more_above_ms: float | None
    """None when there is no more."""
    location: Location | None
    location_source: str
    """"geo", "override" or "unknown"."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a join would have been decided to be."""

    decision: Decision | Refused
    estimates: Estimates
    others: Sums
    """Who is in the room."""
    topology: Topology
    decided_at: float


class Answers:
    """Builds the answers to joins."""

    def __init__(self, signer: TokenSigner, turn: TurnKeeper | None) -> None:
        """Without `turn` no TURN server is handed out."""
        self._signer = signer
        self._turn = turn

    def joined(self, outcome: Admitted, world: World, now: float) -> Joined:
        """Return the answer for an assignment that is in force, with a fresh token."""
        assignment = outcome.assignment
        token_id = secrets.token_urlsafe(12)
        claims = participant_claims(assignment, audience(assignment), id_=token_id, now=now)
        seat = Seat.of(assignment, world.nodes)
        nearby = {
            id_: self._ice_servers(assignment, world.topology.regions.get(id_), now)
            for id_ in {node.region for node in (seat.node, *seat.fallbacks)}
        }
        return Joined(
            assignment=assignment,
            created=outcome.created,
            degraded=outcome.degraded,
            token=self._signer.sign(claims),
            token_expires_at=float(int(now) + TOKEN_TTL_S),
            ice_servers=nearby[seat.node.region],
            node=seat.node,
            fallbacks=tuple(
                replace(node, ice_servers=nearby[node.region]) for node in seat.fallbacks
            ),
        )

    def _ice_servers(
        self, assignment: Assignment, region: Region | None, now: float
    ) -> tuple[IceServer, ...]:
        """Return the TURN servers beside the node: a relay elsewhere would move the repair loop away from it."""
        if self._turn is None or region is None:
            return ()
        urls = turn_urls(region.turn_servers, region.turn_transports)
        if not urls:
            return ()
        turn = turn_credential(
            signing_secret(self._turn.masters(), region.id, now),
            turn_user(assignment.room, assignment.participant),
            now=now,
        )
        return (IceServer(urls, turn.username, turn.credential),)


def probe_targets(probes: Iterable[PlannedProbe], topology: Topology) -> tuple[ProbeTarget, ...]:
    """Return where the planned probes go."""
    return tuple(
        ProbeTarget(
            region=probe.region,
            title=topology.regions[probe.region].title,
            url=f"{probe.node.http_url}/probe",
            stun=f"stun:{_host(probe.node.media_host)}:{probe.node.media_port}",
            why=probe.why,
        )
        for probe in probes
    )


def _address(node: Node, assignment: Assignment) -> NodeAddress:
    path = f"{assignment.room}/{assignment.participant}"
    return NodeAddress(
        id=node.id,
        region=node.region,
        whip_url=f"{node.http_url}/whip/{path}",
        whep_url=f"{node.http_url}/whep/{path}",
    )


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
