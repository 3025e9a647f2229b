"""Who sits where: joining, refreshing, leaving.

A join is load → decide → compare-and-set → effects. The decision is core/allocate.py's; the store's `admit`
decides races; what loses is decided anew, at most ADMIT_ATTEMPTS times.
"""

from dataclasses import dataclass, replace

import structlog

from controlplane.core.allocate import Refused, allocate
from controlplane.core.learned import network_of
from controlplane.core.model import Assignment, Join, NodeState, ParticipantId, RoomId, RttSource
from controlplane.core.place import Place, find_place
from controlplane.core.probes import plan_more, plan_probes
from controlplane.core.rtt import Estimates, Rtts, estimate
from controlplane.core.sums import NOBODY, without
from controlplane.core.world import World
from controlplane.errors import UnavailableError
from controlplane.services.answers import (
    Answers,
    Joined,
    Preview,
    ProbeTargets,
    Seat,
    probe_targets,
)
from controlplane.services.cascade import Cascades
from controlplane.services.changed_rooms import ChangedRooms
from controlplane.services.placements import Placements, admit_counted
from controlplane.services.ports import Clock, GeoLocator, TokenSigner, TurnKeeper
from controlplane.services.proposals import LEASE_TO_FIRST_USE_S, seated
from controlplane.services.refusals import check_regions, no_participant, refusal_error
from controlplane.services.world import Worlds
from controlplane.store.base import Admitted, Store

log = structlog.get_logger(__name__)

ADMIT_ATTEMPTS = 8
"""Decisions per join: who loses so many races in a row, for a participant or for the last places of nodes, is told to
come again."""


@dataclass(frozen=True, slots=True)
class _Client:
    """What an address tells of a client, before it measures anything."""

    place: Place
    network: str
    """Its /24 or /48, empty when its address is not known."""
    learned: Rtts
    """What calls of that network taught."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of somebody who joins."""

    estimates: Estimates
    network: str


class Joins:
    """Use cases around one participant's place."""

    def __init__(  # noqa: PLR0913  the composition root names them all
        self,
        *,
        store: Store,
        worlds: Worlds,
        cascades: Cascades,
        placements: Placements,
        changed: ChangedRooms,
        clock: Clock,
        geo: GeoLocator,
        signer: TokenSigner,
        turn: TurnKeeper | None = None,
    ) -> None:
        """Without `turn` no TURN server is handed out."""
        self._store = store
        self._worlds = worlds
        self._cascades = cascades
        self._placements = placements
        self._changed = changed
        self._clock = clock
        self._geo = geo
        self._answers = Answers(signer, turn)

    async def is_repeat(self, join: Join) -> bool:
        """Return whether `join` would, as things are, only be told again what its session has."""
        current = await self._store.assignment(join.room, join.participant)
        return current is not None and current.session == join.session

    async def stands(self, seat: Assignment) -> bool:
        """Return whether nobody came to this seat, and nothing else became of it, since it was given."""
        current = await self._store.assignment(seat.room, seat.participant)
        if current is None or current.epoch != seat.epoch or current.live:
            return False
        node = (await self._store.nodes()).get(current.node)
        return (
            node is not None
            and node.state is not NodeState.LOST
            and self._clock.now() < current.expires_at
        )

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
            known = await self._known(join, world, now)
            if current is not None and current.session == join.session:
                known = _keeping(known, current)
            outcome = (
                await self._refresh(current, known, now)
                if current is not None and _move_reason(join, current, world, now) is None
                else await self._place_anew(join, current, world, known, now)
            )
            if outcome is not None:
                return self._answers.joined(outcome, world, now)
        raise UnavailableError(
            "join-contended",
            f"Others were faster each time: at joining {join.participant}, or at the last places of nodes.",
            "Let one caller join a participant; try again, and add nodes if it stays so.",
            retry_after_s=1,
        )

    async def leave(self, room: RoomId, participant: ParticipantId) -> Assignment:
        """End the assignment and return it. Raises NotFoundError ("participant-not-found")."""
        now = self._clock.now()
        ended = await self._store.end(room, participant, epoch=None, reason="left", now=now)
        if ended is None:
            raise no_participant(room, participant)
        self._placements.forget((room, participant))
        self._changed.left(room, now=now)
        await self._cascades.refresh(room)
        return ended

    async def look(self, room: RoomId, participant: ParticipantId) -> Seat:
        """Return the live assignment with its addresses. Raises NotFoundError ("participant-not-found")."""
        found = await self._store.assignment(room, participant)
        if found is None:
            raise no_participant(room, participant)
        return Seat.of(found, await self._store.nodes())

    async def preview(self, join: Join) -> Preview:
        """Decide as `join` would, and admit nobody; a refusal is an answer. Raises as `check_regions` does."""
        now = self._clock.now()
        world = await self._worlds.load(now=now)
        check_regions(join, world)
        estimates = (await self._known(join, world, now)).estimates
        others = await self._store.sums(join.room)
        decision = allocate(join, others, world, estimates, now=now)
        return Preview(decision, estimates, others, world.topology, now)

    async def probe_plan(self, client_ip: str | None, room: RoomId | None = None) -> ProbeTargets:
        """Return the regions that this client should measure, the most telling first.

        `room` is where it is going: then also the regions that would be the best for that room are measured. Never
        raises for an address.
        """
        now = self._clock.now()
        world = await self._worlds.load(now=now)
        client = await self._client(client_ip, world, now)
        others = NOBODY if room is None else await self._store.sums(room)
        plan = plan_probes(client.place, world, client.learned, others, now=now)
        more = plan_more(plan, world, now=now)
        return ProbeTargets(
            regions=probe_targets(plan.first, world.topology),
            more=probe_targets(more, world.topology),
            more_above_ms=plan.more_above_ms if more else None,
            location=client.place.location,
            location_source=client.place.source,
        )

    # --- inside ---------------------------------------------------------------------------------

    async def _client(self, client_ip: str | None, world: World, now: float) -> _Client:
        located = self._geo.locate(client_ip) if client_ip else None
        place = find_place(client_ip, located, world.topology)
        network = network_of(client_ip)
        return _Client(place, network, await self._store.learned(network, now=now))

    async def _known(self, join: Join, world: World, now: float) -> _Known:
        client = await self._client(join.client_ip, world, now)
        estimates = estimate(
            join.probes, client.place, world.topology, world.region_rtt, client.learned
        )
        return _Known(estimates, client.network)

    async def _refresh(self, current: Assignment, known: _Known, now: float) -> Admitted | None:
        """Push the lease of the assignment that the session has, and keep newer probes; None if it just changed."""
        proposal = replace(
            current,
            expires_at=now + LEASE_TO_FIRST_USE_S,
            rtts=known.estimates.rtts,
            network=known.network,
        )
        outcome = await self._store.admit(
            proposal, replaces=None, event="participant.assigned", now=now
        )
        if isinstance(outcome, Admitted) and not outcome.created:
            if known.estimates.measured:
                self._changed.note(current.room, now=now)
            return outcome
        if isinstance(outcome, Admitted):
            # It was ended between reading and writing, and the write made it anew.
            self._placements.note(current.node, (current.room, current.participant), now=now)
            self._changed.note(current.room, now=now)
            await self._cascades.refresh(current.room)
            return outcome
        return None

    async def _place_anew(
        self, join: Join, current: Assignment | None, world: World, known: _Known, now: float
    ) -> Admitted | None:
        """Decide and admit; None when somebody else was faster."""
        others = without(await self._store.sums(join.room), current)
        # Counted again here: other joins decided while this one was reading.
        world = self._worlds.with_placements(world, now=now)
        decision = allocate(join, others, world, known.estimates, now=now)
        if isinstance(decision, Refused):
            raise refusal_error(decision, join)
        proposal = seated(join, decision, known.estimates.rtts, network=known.network, now=now)
        event = "participant.assigned"
        if current is not None and current.session == join.session:
            reason = _move_reason(join, current, world, now) or "placed anew"
            event = "participant.moved" if current.node != decision.node else event
            proposal = replace(
                proposal,
                decision=replace(decision, because=(reason, *decision.because)),
                moved_at=current.moved_at,
                unreachable=(current.unreachable | join.exclude_nodes) & world.nodes.keys(),
            )
        outcome = await admit_counted(
            self._store,
            self._placements,
            proposal,
            replaces=current.epoch if current else None,
            event=event,
            now=now,
        )
        if not isinstance(outcome, Admitted):
            return None
        admitted = outcome.assignment
        log.debug(  # who asked for it is in the audit log
            "participant placed",
            room=join.room,
            participant=join.participant,
            node=admitted.node,
            epoch=admitted.epoch,
            because=admitted.decision.because[0],
        )
        self._changed.note(join.room, now=now)
        if current is not None:
            self._cascades.moved(current, admitted)
        await self._cascades.refresh(join.room)
        return outcome


def _keeping(known: _Known, current: Assignment) -> _Known:
    """Return what is known of a session that joins again, with what its assignment knows better.

    Without new probes that is everything. With them it is the figure that the edge measures in the running call: it is
    of the media's own path, renewed every ten seconds, and no word of the client's. A client on another network is on
    another path, and nothing of before says anything about it.
    """
    network = known.network or current.network
    if current.network not in ("", network):
        return known
    news = known.estimates
    if not news.measured:
        return _Known(replace(news, rtts={**news.rtts, **current.rtts}), network)
    edge = current.rtts.get(current.region)
    if edge is None or edge.source is not RttSource.SESSION or not current.live:
        return _Known(news, network)
    return _Known(replace(news, rtts={**news.rtts, current.region: edge}), network)


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
