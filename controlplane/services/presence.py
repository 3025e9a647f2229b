"""What a node's report says about people, held against what the store says.

The node is the authority on who is there. The store is the authority on who belongs there. They differ in four ways:

1. Assigned here, not reported: not live; the lease runs out, unless the node lost it in a restart (see `Present`).
2. Reported here with the current epoch, but assigned to a node of which this one is a fallback: the client used its
   fallback, so the assignment follows it.
3. Reported here, assigned elsewhere, or ended: the node is told to end the session, if the participant was moved
   only once it is live at the new place, or after MOVE_GRACE_S: make before break.
4. Reported here, and this store never heard of the participant: a store that lost its memory learns from the nodes,
   as many as the node has places for. Nobody's call ends because a control plane was restarted.

A session with an older epoch on the very node where the participant belongs is left to the node, which ends it when
the newer one arrives: make before break.
"""

from collections.abc import Iterable, Mapping
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

LEASE_AFTER_REPORT_S = 30.0
"""A session that its node no longer reports keeps its place this long: a client that changes networks is back within
ten seconds, and its seat and epoch should still be there."""

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


class Presence:
    """Writes back what nodes report of their people."""

    def __init__(
        self, store: Store, cascades: Cascades, placements: Placements, changed: ChangedRooms
    ) -> None:
        self._store = store
        self._cascades = cascades
        self._placements = placements
        self._changed = changed

    async def take(
        self,
        node: Node,
        reports: Iterable[ParticipantReport],
        figures: Mapping[Key, RttEstimate],
        *,
        now: float,
    ) -> Present:
        """Take in who is on a node; `figures` are new round trips between people and the node."""
        here = {
            (one.room, one.participant): one for one in await self._store.assignments_on(node.id)
        }
        reported: dict[Key, ParticipantReport] = {}
        for report in sorted(reports, key=lambda one: one.epoch):
            reported[report.room, report.participant] = report
        lease = now + LEASE_AFTER_REPORT_S
        seen = {
            key: replace(
                here[key],
                tracks=report.tracks,
                live=True,
                expires_at=max(lease, here[key].expires_at),
                rtts=self._measured(here[key], figures.get(key), now),
            )
            for key, report in reported.items()
            if key in here
        }
        vanished = tuple(one for key, one in here.items() if one.live and key not in reported)
        for one in vanished:
            seen[one.room, one.participant] = replace(one, live=False, tracks=())
        self._placements.arrived(node.id, reported)
        await self._store.note_sessions(node.id, seen, now=now)
        ends: list[EndSession | None] = []
        free = node.capacity - len(here)
        for key, report in sorted(reported.items()):
            if key in here:
                continue
            current = await self._store.assignment(*key)
            if current is not None:
                ends.append(await self._elsewhere(node, current, report, now=now))
            elif await self._store.last_epoch(*key):
                ends.append(EndSession(*key, report.epoch, "left or expired"))
            elif free > 0:
                free -= 1
                await self._adopt(_newcomer(node, report, now), None, "participant.assigned", now)
        return Present(tuple(one for one in ends if one is not None), vanished)

    async def keep(self, node: NodeId, *, now: float) -> None:
        """Push the leases of a lost node's live people, which its reports would do if it were not cut off."""
        until = now + LEASE_AFTER_REPORT_S
        kept = {
            (one.room, one.participant): replace(one, expires_at=max(until, one.expires_at))
            for one in await self._store.assignments_on(node)
            if one.live
        }
        await self._store.note_sessions(node, kept, now=now)

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
        expires_at=now + LEASE_AFTER_REPORT_S,
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
        expires_at=now + LEASE_AFTER_REPORT_S,
        decision=decision,
        rtts={},
        tracks=report.tracks,
        live=True,
    )
