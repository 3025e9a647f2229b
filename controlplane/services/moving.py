"""Places people anew whose node is gone or has to become empty, and lets go of those who end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from controlplane.core.allocate import Refused, allocate
from controlplane.core.model import Assignment, Join, NodeId, World
from controlplane.core.rtt import Estimates
from controlplane.services.cascade import Cascades
from controlplane.services.joins import propose
from controlplane.services.placements import Placements
from controlplane.services.ports import Clock
from controlplane.services.world import Worlds
from controlplane.store.base import Admitted, Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Move:
    """Why people are moved, and what may become of them."""

    reason: str
    avoid: frozenset[NodeId]
    """Nodes that they must not be moved to."""
    end_stranded: bool
    """Whether those whom nobody can take are ended, because where they are is nothing any more."""


class Mover:
    """Decides and admits for people who did not ask. Who is faster than it (a join, a leave) wins."""

    def __init__(
        self,
        store: Store,
        worlds: Worlds,
        cascades: Cascades,
        placements: Placements,
        clock: Clock,
    ) -> None:
        self._store = store
        self._worlds = worlds
        self._cascades = cascades
        self._placements = placements
        self._clock = clock

    async def move(self, people: Sequence[Assignment], move: Move) -> int:
        """Move these people and return how many were moved; the session stays, so a repeated join finds them."""
        if not people:
            return 0
        now = self._clock.now()
        world = await self._worlds.load(now=now)
        moved = ended = 0
        for one in sorted(people, key=lambda one: (one.room, one.participant)):
            world = self._worlds.with_placements(world, now=now)
            outcome = await self._move(one, move, world, now)
            moved += outcome == "moved"
            ended += outcome == "ended"
        for room in sorted({one.room for one in people}):
            await self._cascades.refresh(room)
        log.info("people moved", reason=move.reason, moved=moved, ended=ended, of=len(people))
        return moved

    async def released(self, ended: Assignment) -> None:
        """Let go of what an assignment that just ended still held: its promised place and its links."""
        self._placements.forget((ended.room, ended.participant))
        await self._cascades.refresh(ended.room)

    async def _move(self, one: Assignment, move: Move, world: World, now: float) -> str:
        join = Join(
            room=one.room,
            participant=one.participant,
            session=one.session,
            role=one.role,
            require=one.require,
            exclude_nodes=move.avoid,
        )
        estimates = Estimates(one.rtts, one.decision.location, one.decision.location_source)
        decision = allocate(join, await self._store.room(one.room), world, estimates, now=now)
        key = (one.room, one.participant)
        if isinstance(decision, Refused):
            if not move.end_stranded:
                return "stranded"
            reason = f"{move.reason}; nobody can take the participant: {decision.because[0]}"
            gone = await self._store.end(*key, epoch=one.epoch, reason=reason, now=now)
            if gone is None:
                return "overtaken"
            self._placements.forget(key)
            return "ended"
        decision = replace(decision, because=(move.reason, *decision.because))
        outcome = await self._store.admit(
            propose(join, decision, estimates, now=now),
            replaces=one.epoch,
            event="participant.moved",
            now=now,
        )
        if not isinstance(outcome, Admitted):
            return "overtaken"
        self._placements.note(decision.node, key, now=now)
        return "moved"
