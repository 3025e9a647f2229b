"""Places people anew whose node is gone or has to become empty, and lets go of those who end.

Whom nobody can take stays where it is: the node may be cut off from here only, with every call on it going on.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from controlplane.core.allocate import Refused, allocate_again
from controlplane.core.model import Assignment, NodeId
from controlplane.core.rtt import completed
from controlplane.core.sums import without
from controlplane.core.world import World
from controlplane.services.cascade import Cascades
from controlplane.services.changed_rooms import ChangedRooms
from controlplane.services.placements import Placements, admit_counted
from controlplane.services.ports import Clock
from controlplane.services.proposals import reseated
from controlplane.services.world import Worlds
from controlplane.store.base import Admitted, Store

AT_ONCE = 20
"""People who are moved before others get their turn: 20 ms."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Move:
    """Why people are moved, and what may become of them."""

    reason: str
    avoid: frozenset[NodeId]
    """Nodes that they must not be moved to."""


class Mover:
    """Decides and admits for people who did not ask. Who is faster than it (a join, a leave) wins."""

    def __init__(
        self,
        store: Store,
        worlds: Worlds,
        cascades: Cascades,
        placements: Placements,
        changed: ChangedRooms,
        clock: Clock,
    ) -> None:
        self._store = store
        self._worlds = worlds
        self._cascades = cascades
        self._placements = placements
        self._changed = changed
        self._clock = clock

    async def move(self, people: Sequence[Assignment], move: Move) -> int:
        """Move these people and return how many were moved; the session stays, so a repeated join finds them."""
        if not people:
            return 0
        moved = 0
        for index, one in enumerate(sorted(people, key=lambda one: (one.room, one.participant))):
            current = await self._store.assignment(one.room, one.participant)
            if current is None or current.epoch != one.epoch:
                continue  # somebody was faster
            # Anew for each: others go in between, time passes, and a node may be lost or the topology replaced.
            now = self._clock.now()
            world = await self._worlds.load(now=now)
            moved += await self._move(current, move, world, now)
            if index % AT_ONCE == AT_ONCE - 1:
                # Joins and reports go in between. On a busy day a turn of the loop is long: one person each would take
                # minutes for ten thousand.
                await asyncio.sleep(0)
        await self.relink(people)
        log.info("people moved", reason=move.reason, moved=moved, of=len(people))
        return moved

    async def relink(self, people: Sequence[Assignment]) -> None:
        """Plan the links of these people's rooms anew."""
        for room in sorted({one.room for one in people}):
            await self._cascades.refresh(room)

    async def released(self, ended: Assignment) -> None:
        """Let go of what an assignment that just ended still held: its promised place and its links."""
        self._placements.forget((ended.room, ended.participant))
        self._changed.left(ended.room, now=self._clock.now())
        await self._cascades.refresh(ended.room)

    async def _move(self, one: Assignment, move: Move, world: World, now: float) -> bool:
        """Return whether the participant sits elsewhere now; False for one whom nobody can take, or who was faster."""
        others = without(await self._store.sums(one.room), one)
        one = completed(one, world.topology, world.region_rtt)
        decision = allocate_again(one, others, world, avoid=move.avoid, now=now)
        if isinstance(decision, Refused):
            return False
        decision = replace(decision, because=(move.reason, *decision.because))
        # No rehome, so `moved_at` stays: it is about moves that nobody has to make.
        outcome = await admit_counted(
            self._store,
            self._placements,
            reseated(one, decision, now=now),
            replaces=one.epoch,
            event="participant.moved",
            now=now,
        )
        if not isinstance(outcome, Admitted):
            return False
        self._cascades.moved(one, outcome.assignment)
        self._changed.note(one.room, now=now)
        return True
