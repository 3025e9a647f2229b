"""What a node's report says about people, held against what the store says.

The node is the authority on who is there. The store is the authority on who belongs there. They differ in four ways:

1. Assigned here, not reported: not live; the lease runs out, unless the node lost it in a restart (see `Present`).
2. Reported here with the current epoch, but assigned to a node of which this one is a fallback: the client used its
   fallback, so the assignment follows it.
3. Reported here, assigned elsewhere, or ended: the node is told to end the session, if the participant was moved
   only once it is live at the new place, or after MOVE_GRACE_S: make before break.
4. Reported here, and this store never heard of the participant, or not of that epoch: a store that lost its memory
   learns from the nodes, as many as the node has places for. Nobody's call ends because a control plane was restarted.

A session with an older epoch on the very node where the participant belongs is left to the node, which ends it when
the newer one arrives: make before break.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from controlplane.core.model import (
    Assignment,
    Candidate,
    Decision,
    Node,
    NodeId,
    ParticipantId,
    RegionId,
    Role,
    RoomId,
    RttEstimate,
)
from controlplane.core.rtt import unknown_rtt
from controlplane.core.session import EndSession, ParticipantReport
from controlplane.core.sums import access_rtt
from controlplane.services.cascade import MOVE_GRACE_S, Cascades
from controlplane.services.changed_rooms import ChangedRooms
from controlplane.services.placements import Placements
from controlplane.store.base import Admitted, Store

log = structlog.get_logger(__name__)

LIVE_LEASE_S = 3600.0
"""The lease of a session that its node reports. It only matters when everybody who knew of the session is gone, so it
is long, and pushed rarely: what is written twice a second is what others cannot do anything else beside."""

LEASE_AFTER_REPORT_S = 30.0
"""A session that its node no longer reports keeps its place this long: a client that changes networks is back within
ten seconds, and its seat and epoch should still be there."""

LOOK_AGAIN_S = 30.0
"""How long a report is not held against the store again, when neither changed."""

ADOPTED_AT_ONCE = 10
"""People who were unknown and are taken in before others get their turn: 5 ms."""

NEWS_MS = 3.0
"""A room is looked at again when a round trip turns out to be another one by more than this: less cannot make a move
worth the gap that it costs."""

Key = tuple[RoomId, ParticipantId]


@dataclass(frozen=True, slots=True)
class Present:
    """What a report came to."""

    ends: tuple[EndSession, ...]
    """Sessions that the node has to end, in order of room and participant."""
    vanished: tuple[Assignment, ...]
    """Assignments of this node that were live and are not reported any more."""


@dataclass(frozen=True, slots=True)
class _Settled:
    """A report that agrees with the store: nothing is to be done until either changes."""

    reports: Sequence[ParticipantReport]
    seats: Sequence[Assignment]
    at: float

    def holds(
        self, reports: Sequence[ParticipantReport], seats: Sequence[Assignment], now: float
    ) -> bool:
        """Return whether nothing changed. Mostly the very same objects are compared, which costs next to nothing."""
        is_recent = 0 <= now - self.at < LOOK_AGAIN_S
        return is_recent and self.reports == reports and self.seats == seats


class Presence:
    """Writes back what nodes report of their people."""

    def __init__(
        self, store: Store, cascades: Cascades, placements: Placements, changed: ChangedRooms
    ) -> None:
        self._store = store
        self._cascades = cascades
        self._placements = placements
        self._changed = changed
        self._settled: dict[NodeId, _Settled] = {}

    async def take(
        self,
        node: Node,
        reports: Sequence[ParticipantReport],
        figures: Mapping[Key, RttEstimate],
        *,
        now: float,
    ) -> Present:
        """Take in who is on a node; `figures` are new round trips between people and the node."""
        seats = await self._store.assignments_on(node.id)
        settled = self._settled.get(node.id)
        if not figures and settled is not None and settled.holds(reports, seats, now):
            return Present((), ())
        here = {(one.room, one.participant): one for one in seats}
        reported: dict[Key, ParticipantReport] = {}
        for report in sorted(reports, key=lambda one: one.epoch):
            reported[report.room, report.participant] = report
        vanished = tuple(one for key, one in here.items() if one.live and key not in reported)
        self._placements.arrived(node.id, reported)
        await self._write(node.id, here, reported, vanished, figures, now)
        strangers = [reported[key] for key in sorted(reported.keys() - here.keys())]
        if strangers:
            self._settled.pop(node.id, None)
        else:
            seats = await self._store.assignments_on(node.id)
            self._settled[node.id] = _Settled(reports, seats, now)
        free = node.capacity - len(here)
        ends = await self._strangers(node, strangers, free=free, now=now)
        return Present(ends, vanished)

    async def give_up(self, node: NodeId, *, now: float) -> None:
        """Let the live people of a lost node go when nobody could take them and it did not come back."""
        until = now + LEASE_AFTER_REPORT_S
        left = {
            (one.room, one.participant): replace(one, live=False, expires_at=until)
            for one in await self._store.assignments_on(node)
            if one.live
        }
        if left:
            await self._store.note_sessions(node, left, now=now)

    def forget(self, node: NodeId) -> None:
        """Drop what is remembered of a node."""
        self._settled.pop(node, None)

    async def _write(
        self,
        node: NodeId,
        here: Mapping[Key, Assignment],
        reported: Mapping[Key, ParticipantReport],
        vanished: Iterable[Assignment],
        figures: Mapping[Key, RttEstimate],
        now: float,
    ) -> None:
        """Tell the store what is news about those who belong here."""
        seen: dict[Key, Assignment] = {}
        for key, report in reported.items():
            seat = here.get(key)
            if seat is None:
                continue
            figure = figures.get(key)
            is_long = seat.expires_at - now > LIVE_LEASE_S / 2
            if seat.live and is_long and figure is None and seat.tracks == report.tracks:
                continue
            seen[key] = replace(
                seat,
                tracks=report.tracks,
                live=True,
                expires_at=now + LIVE_LEASE_S,
                rtts=self._measured(seat, figure, now),
            )
        for one in vanished:
            until = now + LEASE_AFTER_REPORT_S
            seen[one.room, one.participant] = replace(one, live=False, tracks=(), expires_at=until)
        if seen:
            await self._store.note_sessions(node, seen, now=now)

    async def _strangers(
        self,
        node: Node,
        strangers: Sequence[ParticipantReport],
        *,
        free: int,
        now: float,
    ) -> tuple[EndSession, ...]:
        """Settle those who are on the node and do not belong there; return whom it has to end."""
        ends: list[EndSession] = []
        for report in strangers:
            key = (report.room, report.participant)
            current = await self._store.assignment(*key)
            if current is not None:
                end = await self._elsewhere(node, current, report, now=now)
                if end is not None:
                    ends.append(end)
            elif await self._store.last_epoch(*key) >= report.epoch:
                ends.append(EndSession(*key, report.epoch, "left or expired"))
            elif free > 0 and (await self._store.health()).mode == "normal":
                # In degraded mode another replica may know better.
                free -= 1
                if free % ADOPTED_AT_ONCE == 0:
                    await asyncio.sleep(0)
                await self._adopt(_newcomer(node, report, now), None, "participant.assigned", now)
        return tuple(ends)

    def _measured(
        self, one: Assignment, figure: RttEstimate | None, now: float
    ) -> Mapping[RegionId, RttEstimate]:
        """Return the participant's round trips with what the edge measured, which may be news to its room."""
        if figure is None:
            return one.rtts
        if abs(figure.rtt_ms - access_rtt(one).rtt_ms) > NEWS_MS:
            self._changed.note(one.room, now=now)
        return {**one.rtts, one.region: figure}

    async def _elsewhere(
        self, node: Node, current: Assignment, report: ParticipantReport, *, now: float
    ) -> EndSession | None:
        """Settle a session of somebody who is assigned elsewhere; return the order to end it, or None."""
        if report.epoch == current.epoch and node.id in current.decision.fallbacks:
            await self._adopt(
                _followed(current, node, report, now), current.epoch, "participant.moved", now
            )
            return None
        if report.epoch > current.epoch:
            return None  # the node knows something newer, which this replica has yet to hear
        if not current.live and now - current.assigned_at < MOVE_GRACE_S:
            return None
        reason = f"moved to {current.node}"
        return EndSession(report.room, report.participant, report.epoch, reason)

    async def _adopt(
        self, proposal: Assignment, replaces: int | None, event: str, now: float
    ) -> None:
        outcome = await self._store.admit(proposal, replaces=replaces, event=event, now=now)
        if isinstance(outcome, Admitted):
            log.info(
                "session adopted",
                room=proposal.room,
                participant=proposal.participant,
                node=proposal.node,
                because=proposal.decision.because[0],
            )
            self._changed.note(proposal.room, now=now)
            await self._cascades.refresh(proposal.room)
        # A conflict is settled by the next report, half a second from now.


def _followed(current: Assignment, node: Node, report: ParticipantReport, now: float) -> Assignment:
    decision = replace(
        current.decision,
        node=node.id,
        region=node.region,
        because=(
            f"the client went to its fallback {node.id} instead of {current.node}",
            *current.decision.because,
        ),
        fallbacks=tuple(one for one in current.decision.fallbacks if one != node.id),
    )
    return replace(
        current,
        node=node.id,
        region=node.region,
        decision=decision,
        tracks=report.tracks,
        live=True,
        expires_at=now + LIVE_LEASE_S,
        unreachable=current.unreachable | {current.node},
    )


def _newcomer(node: Node, report: ParticipantReport, now: float) -> Assignment:
    """Return an assignment for somebody of whom only the node knows.

    The role is the one that receives all and may send: links carry nothing that nobody sends. The epoch is the one
    that the node knows, so that the store goes on above it.
    """
    decision = Decision(
        node=node.id,
        region=node.region,
        because=(f"was on {node.id} before this control plane knew of it",),
        candidates=(Candidate(node.region, node.id, unknown_rtt(), 0.0, {}),),
        fallbacks=(),
        decided_at=now,
    )
    return Assignment(
        room=report.room,
        participant=report.participant,
        session="",
        role=Role.PUBLISHER,
        node=node.id,
        region=node.region,
        epoch=report.epoch,
        assigned_at=now,
        expires_at=now + LIVE_LEASE_S,
        decision=decision,
        rtts={},
        tracks=report.tracks,
        live=True,
    )
