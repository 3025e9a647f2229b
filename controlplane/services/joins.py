"""Who sits where: joining, refreshing, leaving.

A join is load → decide → compare-and-set → effects. The decision is core/allocate.py's; the store's `admit`
decides races; what loses is decided anew, at most ADMIT_ATTEMPTS times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from controlplane.core.allocate import Refused, allocate
from controlplane.core.model import (
    Assignment,
    Decision,
    Join,
    Location,
    Node,
    NodeId,
    NodeState,
    ParticipantId,
    Region,
    RegionId,
    RoomId,
    Topology,
    World,
)
from controlplane.core.place import Place, find_place
from controlplane.core.probes import plan_probes
from controlplane.core.rtt import Estimates, estimate
from controlplane.core.sums import Sums, without
from controlplane.core.tokens import TOKEN_TTL_S, audience, participant_claims
from controlplane.core.turn import region_secret, turn_credential, turn_urls, turn_user
from controlplane.errors import UnavailableError
from controlplane.services.cascade import Cascades
from controlplane.services.placements import Placements
from controlplane.services.ports import Clock, GeoLocator, TokenSigner
from controlplane.services.refusals import check_regions, no_participant, refusal_error
from controlplane.services.world import Worlds
from controlplane.store.base import Admitted, Store

log = structlog.get_logger(__name__)

ADMIT_ATTEMPTS = 3
"""Decisions per join: who loses three races in a row for one participant is told to come again."""

LEASE_TO_FIRST_USE_S = float(TOKEN_TTL_S)
"""An assignment that nobody used is free again when its token can no longer be used."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node as a client needs it."""

    id: NodeId
    region: RegionId
    whip_url: str
    """Where to publish (RFC 9725)."""
    whep_url: str
    """Where to play."""


@dataclass(frozen=True, slots=True)
class IceServer:
    """One entry of RTCConfiguration.iceServers (W3C WebRTC, 4.2.2)."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a join."""

    assignment: Assignment
    created: bool
    """False when the same session already had this assignment."""
    token: str = field(repr=False)
    """Compact JWS for the node and the fallbacks."""
    token_expires_at: float
    """Seconds since 1970; the time to first use."""
    ice_servers: tuple[IceServer, ...]
    """Empty when the region has no TURN server or no TURN secret is configured."""
    node: NodeAddress
    fallbacks: tuple[NodeAddress, ...]
    """At most two, the best first."""


@dataclass(frozen=True, slots=True)
class Seat:
    """An assignment with the addresses that belong to it, for looking."""

    assignment: Assignment
    node: NodeAddress
    fallbacks: tuple[NodeAddress, ...]


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
class ProbePlan:
    """What a client should measure before it joins."""

    regions: tuple[ProbeTarget, ...]
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


class Joins:
    """Use cases around one participant's place."""

    def __init__(  # noqa: PLR0913  the composition root names them all
        self,
        *,
        store: Store,
        worlds: Worlds,
        cascades: Cascades,
        placements: Placements,
        clock: Clock,
        geo: GeoLocator,
        signer: TokenSigner,
        turn_secret: bytes | None = None,
    ) -> None:
        """`turn_secret` is the master secret of TURN credentials; without it no TURN server is handed out."""
        self._store = store
        self._worlds = worlds
        self._cascades = cascades
        self._placements = placements
        self._clock = clock
        self._geo = geo
        self._signer = signer
        self._turn_secret = turn_secret

    async def join(self, join: Join) -> Joined:
        """Admit a participant, or repeat the answer that it already has.

        The same session with the same role and requirements keeps its assignment, unless its node is lost or
        excluded; then it is placed anew. Anything else is a new assignment in the place of the old one.

        Raises ResidencyError (451: "residency-unsatisfied"), UnavailableError (503: "no-nodes", "no-capacity",
        "join-contended"), InvalidInputError ("unknown-region" for a required region that does not exist).
        """
        for _ in range(ADMIT_ATTEMPTS):
            now = self._clock.now()
            world = await self._worlds.load(now=now)
            check_regions(join, world)
            current = await self._store.assignment(join.room, join.participant)
            estimates = estimate(
                join.probes, self._place(join.client_ip, world), world.topology, world.region_rtt
            )
            outcome = (
                await self._refresh(join, current, estimates, now)
                if current is not None and _move_reason(join, current, world, now) is None
                else await self._place_anew(join, current, world, estimates, now)
            )
            if outcome is not None:
                return self._answer(outcome, world, now)
        raise UnavailableError(
            "join-contended",
            f"Participant {join.participant} is being joined by several callers at once.",
            "Let one caller join a participant, or try again.",
            retry_after_s=1,
        )

    async def leave(self, room: RoomId, participant: ParticipantId) -> Assignment:
        """End the assignment and return it. Raises NotFoundError ("participant-not-found")."""
        ended = await self._store.end(
            room, participant, epoch=None, reason="left", now=self._clock.now()
        )
        if ended is None:
            raise no_participant(room, participant)
        self._placements.forget((room, participant))
        await self._cascades.refresh(room)
        return ended

    async def look(self, room: RoomId, participant: ParticipantId) -> Seat:
        """Return the live assignment with its addresses. Raises NotFoundError ("participant-not-found")."""
        found = await self._store.assignment(room, participant)
        if found is None:
            raise no_participant(room, participant)
        nodes = await self._store.nodes()
        return Seat(found, _own_address(found, nodes), _fallback_addresses(found, nodes))

    async def preview(self, join: Join) -> Preview:
        """Decide as `join` would, and admit nobody; a refusal is an answer. Raises as `check_regions` does."""
        now = self._clock.now()
        world = await self._worlds.load(now=now)
        check_regions(join, world)
        estimates = estimate(
            join.probes, self._place(join.client_ip, world), world.topology, world.region_rtt
        )
        others = await self._store.sums(join.room)
        decision = allocate(join, others, world, estimates, now=now)
        return Preview(decision, estimates, others, world.topology, now)

    async def probe_plan(self, client_ip: str | None) -> ProbePlan:
        """Return the regions that this client should measure, the nearest first. Never raises for an address."""
        world = await self._worlds.load(now=self._clock.now())
        place = self._place(client_ip, world)
        targets = tuple(
            ProbeTarget(
                region=probe.region,
                title=world.topology.regions[probe.region].title,
                url=f"{probe.node.http_url}/probe",
                stun=f"stun:{_host(probe.node.media_host)}:{probe.node.media_port}",
                why=probe.why,
            )
            for probe in plan_probes(place, world).first
        )
        return ProbePlan(targets, place.location, place.source)

    # --- inside ---------------------------------------------------------------------------------

    def _place(self, client_ip: str | None, world: World) -> Place:
        located = self._geo.locate(client_ip) if client_ip else None
        return find_place(client_ip, located, world.topology)

    async def _refresh(
        self, join: Join, current: Assignment, estimates: Estimates, now: float
    ) -> Admitted | None:
        """Push the lease of the assignment that the session has, and keep newer probes; None if it just changed."""
        proposal = replace(
            current,
            expires_at=now + LEASE_TO_FIRST_USE_S,
            rtts=estimates.rtts if estimates.measured else current.rtts,
        )
        outcome = await self._store.admit(
            proposal, replaces=None, event="participant.assigned", now=now
        )
        if isinstance(outcome, Admitted) and not outcome.created:
            return outcome
        if isinstance(outcome, Admitted):
            # It was ended between reading and writing, and the write made it anew.
            await self._cascades.refresh(join.room)
            return outcome
        return None

    async def _place_anew(
        self,
        join: Join,
        current: Assignment | None,
        world: World,
        estimates: Estimates,
        now: float,
    ) -> Admitted | None:
        """Decide and admit; None when somebody else was faster."""
        others = without(await self._store.sums(join.room), current)
        # Counted again here: other joins decided while this one was reading.
        world = self._worlds.with_placements(world, now=now)
        decision = allocate(join, others, world, estimates, now=now)
        if isinstance(decision, Refused):
            raise refusal_error(decision, join)
        event = "participant.assigned"
        if current is not None and current.session == join.session:
            reason = _move_reason(join, current, world, now) or "placed anew"
            decision = replace(decision, because=(reason, *decision.because))
            event = "participant.moved" if current.node != decision.node else event
        key = (join.room, join.participant)
        self._placements.note(decision.node, key, now=now)
        outcome = await self._store.admit(
            propose(join, decision, estimates, now=now),
            replaces=current.epoch if current else None,
            event=event,
            now=now,
        )
        if not isinstance(outcome, Admitted):
            self._placements.forget(key)
            return None
        admitted = outcome.assignment
        log.info(
            "participant placed",
            room=join.room,
            participant=join.participant,
            node=admitted.node,
            epoch=admitted.epoch,
            because=decision.because[0],
        )
        await self._cascades.refresh(join.room)
        return outcome

    def _answer(self, outcome: Admitted, world: World, now: float) -> Joined:
        assignment = outcome.assignment
        claims = participant_claims(assignment, audience(assignment), now=now)
        return Joined(
            assignment=assignment,
            created=outcome.created,
            token=self._signer.sign(claims),
            token_expires_at=float(int(now) + TOKEN_TTL_S),
            ice_servers=self._ice_servers(
                assignment, world.topology.regions.get(assignment.region), now
            ),
            node=_own_address(assignment, world.nodes),
            fallbacks=_fallback_addresses(assignment, world.nodes),
        )

    def _ice_servers(
        self, assignment: Assignment, region: Region | None, now: float
    ) -> tuple[IceServer, ...]:
        """Return the TURN servers beside the node: a relay elsewhere would move the repair loop away from it."""
        if self._turn_secret is None or region is None:
            return ()
        urls = turn_urls(region.turn_servers, region.turn_transports)
        if not urls:
            return ()
        turn = turn_credential(
            region_secret(self._turn_secret, region.id),
            turn_user(assignment.room, assignment.participant),
            now=now,
        )
        return (IceServer(urls, turn.username, turn.credential),)


def propose(join: Join, decision: Decision, estimates: Estimates, *, now: float) -> Assignment:
    """Return the assignment to admit; the store gives it its epoch."""
    return Assignment(
        room=join.room,
        participant=join.participant,
        session=join.session,
        role=join.role,
        node=decision.node,
        region=decision.region,
        epoch=0,
        assigned_at=now,
        expires_at=now + LEASE_TO_FIRST_USE_S,
        decision=decision,
        rtts=estimates.rtts,
        require=join.require,
    )


def _move_reason(join: Join, current: Assignment, world: World, now: float) -> str | None:
    """Return why the session's assignment cannot simply be repeated, or None if it can."""
    node = world.nodes.get(current.node)
    if current.session != join.session:
        reason = "another session of the participant"
    elif current.expires_at <= now:
        reason = "the assignment had expired"
    elif current.role is not join.role or current.require != join.require:
        reason = "the join asks for something else now"
    elif node is None or node.state is NodeState.LOST:
        reason = f"node {current.node} lost: {node.why if node else 'forgotten'}"
    elif current.node in join.exclude_nodes:
        reason = f"node {current.node} is excluded by the join"
    else:
        return None
    return reason


def _own_address(assignment: Assignment, nodes: Mapping[NodeId, Node]) -> NodeAddress:
    """Return where the participant goes; without URLs for the moment in which its node is already forgotten."""
    node = nodes.get(assignment.node)
    if node is None:
        return NodeAddress(assignment.node, assignment.region, "", "")
    return _address(node, assignment)


def _fallback_addresses(
    assignment: Assignment, nodes: Mapping[NodeId, Node]
) -> tuple[NodeAddress, ...]:
    known = (nodes[id_] for id_ in assignment.decision.fallbacks if id_ in nodes)
    return tuple(_address(node, assignment) for node in known)


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
