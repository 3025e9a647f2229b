"""Better places during the call: rooms that changed are planned anew as a whole, and a few people are moved.

All rooms are, little by little, when there is a new topology, or a region that had no node gets one.

core/rehome.py decides what is worth a move. This decides when a room is looked at and how much happens at a time. The
old session goes on until the new one is live (services/presence.py), and so do the links that it needs
(services/cascade.py): make before break.

Whoever is faster wins: a join, a leave or a drain between the plan and its move leaves the rest of the plan standing
and that person alone; the room has changed then and is looked at again.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from controlplane.core.allocate import MAX_FALLBACKS, Refused, allocate_again
from controlplane.core.explain import explain_rehome
from controlplane.core.model import (
    Assignment,
    Decision,
    NodeId,
    NodeState,
    RegionId,
    Room,
    RoomId,
    Topology,
)
from controlplane.core.rehome import AGAIN_AFTER_S, PEOPLE_MAX, SETTLED_S, Rehome, improve
from controlplane.core.rtt import completed
from controlplane.core.sums import without
from controlplane.core.world import World
from controlplane.services.cascade import Cascades
from controlplane.services.changed_rooms import QUIET_S, ChangedRooms
from controlplane.services.duties import Duties
from controlplane.services.placements import Placements, admit_counted
from controlplane.services.ports import Clock, Counter
from controlplane.services.proposals import reseated
from controlplane.services.world import Worlds
from controlplane.store.base import Admitted, Store

log = structlog.get_logger(__name__)

CONNECTING_S = 10.0
"""Who was assigned within this time and is not live yet is probably connecting, and is not sent elsewhere meanwhile."""

ROOMS_PER_SWEEP = 50
"""90 rooms a second, a tenth of one core: a room of eight takes a millisecond, and then the sweep rests."""

PAUSE_S = 0.005
"""Between two rooms. A join takes several turns of the loop: with a plan in each of them it would wait for them all."""

REST_S = 1.0
"""Moves are spread over the minute that the policy gives them, second by second: each changes the snapshots of a few
nodes, and those of a join should not have to wait behind hundreds of them."""

THREAD_FROM = 24
"""People in a room whose plan takes so many milliseconds (10 for 64 people) that it is made in a thread."""


@dataclass(frozen=True, slots=True)
class RehomingCounters:
    """What operators see of it."""

    looked_at: Counter
    """Rooms that were planned anew."""
    moves: Counter
    """People who were moved."""


class Rehoming:
    """Takes the changed rooms, a few at a time, and moves people within the limits of the policy."""

    def __init__(  # noqa: PLR0913  the composition root names them all
        self,
        *,
        store: Store,
        worlds: Worlds,
        cascades: Cascades,
        placements: Placements,
        changed: ChangedRooms,
        counters: RehomingCounters,
        duties: Duties,
        is_frozen: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """`is_frozen` says whether nobody is to be moved now."""
        self._store = store
        self._worlds = worlds
        self._cascades = cascades
        self._placements = placements
        self._changed = changed
        self._counters = counters
        self._duties = duties
        self._is_frozen = is_frozen
        self._clock = clock
        self._moved_at: deque[float] = deque()
        """Moves of the last minute: at most as many as the policy allows."""
        self._offer: tuple[Topology, set[RegionId]] | None = None
        """The topology and the regions with a serving node, as of the last sweep."""
        self._round: tuple[bool, RoomId | None] = False, None
        """Whether all rooms are being gone through, and the last one that was looked at."""

    async def sweep(self) -> None:
        """Look at the rooms whose time has come. Call about 4 times a second."""
        if self._is_frozen():
            return
        now = self._clock.now()
        if self._rests(await self._worlds.load(now=now), now):
            return
        ids = self._changed.take(ROOMS_PER_SWEEP, now=now)
        ids += await self._of_round(ROOMS_PER_SWEEP - len(ids), now)
        for id_ in ids:
            # Anew for each: on a busy day a turn of the loop takes a while.
            now = self._clock.now()
            world = await self._worlds.load(now=now)
            if self._rests(world, now):
                self._changed.again(id_, at=now)
                continue
            await self._look_at(await self._store.room(id_), world, now)
            await asyncio.sleep(PAUSE_S)

    def _rests(self, world: World, now: float) -> bool:
        """Return whether nobody may be moved now because of those who just were: no room is planned in vain."""
        budget = self._budget(world, now)
        if not self._moved_at or budget < 1:
            return bool(self._moved_at)
        each_s = max(1, math.ceil(world.topology.policy.rehomes_per_fleet / AGAIN_AFTER_S))
        return len(self._moved_at) >= each_s and 0 <= now - self._moved_at[-each_s] < REST_S

    async def _of_round(self, limit: int, now: float) -> Sequence[RoomId]:
        """Return rooms that did not change themselves, but for which there is more to choose from than before.

        After a new topology, and when a region that had no node gets one, all rooms are gone through once, in order
        of id, as fast as those that changed leave time for.
        """
        world = await self._worlds.load(now=now)
        regions = {one.region for one in world.nodes.values() if one.state is NodeState.SERVING}
        if self._offer is not None and (
            world.topology is not self._offer[0] or not regions <= self._offer[1]
        ):
            self._round = True, None
        self._offer = world.topology, regions
        goes_on, after = self._round
        if not goes_on or limit < 1:
            return ()
        page = await self._store.rooms(after=after, limit=limit)
        self._round = (True, page[-1].id) if len(page) == limit else (False, None)
        return [room.id for room in page if self._duties.is_mine(room.id)]

    async def _look_at(self, room: Room, world: World, now: float) -> None:
        if not 2 <= len(room.assignments) <= PEOPLE_MAX:
            return  # nobody would be moved
        budget = self._budget(world, now)
        step = await _plan(room, world, now, budget)
        self._counters.looked_at.inc()
        if any(_is_connecting(room.assignments[one.participant], now) for one in step):
            self._changed.again(room.id, at=now + QUIET_S)
            return
        moved = 0
        for one in step:
            # Anew: while the plan was made, a node may have been lost or the topology replaced.
            world = await self._worlds.load(now=now)
            moved += await self._move(room.assignments[one.participant], one, world, now)
            # Joins and reports go in between.
            await asyncio.sleep(0)
        if step:
            self._counters.moves.inc(moved)
            self._moved_at.extend([now] * moved)
            await self._cascades.refresh(room.id)
            log.info(
                "room improved",
                room=room.id,
                moved=moved,
                of=len(step),
                gain_ms=round(step[0].gain_ms, 1),
            )
        limit = min(len(room.assignments), world.topology.policy.rehomes_per_room)
        # Only moves of the last minute give way again: a fleet's limit below a room's does not.
        held_back = bool(self._moved_at) and budget < limit
        again = now + AGAIN_AFTER_S if moved or held_back else _again_at(room, now)
        if again is not None:
            self._changed.again(room.id, at=again)

    def _budget(self, world: World, now: float) -> int:
        """Return how many people the fleet's limit lets move now."""
        # A time that lies ahead is from before the clock was set back.
        while self._moved_at and not 0 <= now - self._moved_at[0] < AGAIN_AFTER_S:
            self._moved_at.popleft()
        return world.topology.policy.rehomes_per_fleet - len(self._moved_at)

    async def _move(self, seat: Assignment, step: Rehome, world: World, now: float) -> bool:
        """Move one person as planned; return False if somebody was faster or the place was taken meanwhile."""
        one = await self._store.assignment(seat.room, seat.participant)
        if one is None or one.epoch != seat.epoch:
            return False
        others = without(await self._store.sums(one.room), one)
        one = completed(one, world.topology, world.region_rtt)
        alone = allocate_again(one, others, world, now=now)
        decision = None if isinstance(alone, Refused) else _as_planned(alone, one, step, world)
        if decision is None:
            return False
        outcome = await admit_counted(
            self._store,
            self._placements,
            replace(reseated(one, decision, now=now), moved_at=now),
            replaces=one.epoch,
            event="participant.moved",
            now=now,
        )
        if not isinstance(outcome, Admitted):
            return False
        self._cascades.moved(one, outcome.assignment)
        return True


async def _plan(room: Room, world: World, now: float, budget: int) -> tuple[Rehome, ...]:
    people = {
        who: _within_reach(completed(one, world.topology, world.region_rtt), world)
        for who, one in room.assignments.items()
    }
    room = Room(room.id, people)
    if len(room.assignments) < THREAD_FROM:
        return improve(room, world, now=now, budget=budget)
    return await asyncio.to_thread(improve, room, world, now=now, budget=budget)


def _within_reach(one: Assignment, world: World) -> Assignment:
    """Return the seat with its requirements narrowed to regions that the client did not fail to reach."""
    away = {world.nodes[node].region for node in one.unreachable if node in world.nodes}
    if not away:
        return one
    regions = (one.require.regions or frozenset(world.topology.regions)) - away
    # Its own region it has reached; an empty set would mean all.
    return replace(one, require=replace(one.require, regions=regions | {one.region}))


def _is_connecting(one: Assignment, now: float) -> bool:
    return not one.live and 0 <= now - one.assigned_at < CONNECTING_S


def _again_at(room: Room, now: float) -> float | None:
    """Return when what may have held back a move is over, or None."""
    people = room.assignments.values()
    if any(one.moved_at is not None and 0 <= now - one.moved_at < AGAIN_AFTER_S for one in people):
        return now + AGAIN_AFTER_S
    newest = max(one.assigned_at for one in people)
    if len(people) == 2 and 0 <= now - newest < SETTLED_S:
        return newest + SETTLED_S
    return None


def _as_planned(alone: Decision, one: Assignment, step: Rehome, world: World) -> Decision | None:
    """Return the decision that the whole room wants instead of what is best for this person alone.

    None when the planned node has no place any more.
    """
    found = next((c for c in alone.candidates if c.region == step.to_region), None)
    if found is None or found.node is None or step.to_node in found.refused:
        return None
    titles = world.topology.regions
    come_from = titles[one.region].title if one.region in titles else one.region
    reason = f"moved from {come_from} to {titles[step.to_region].title}: {step.because}"
    return replace(
        alone,
        node=step.to_node,
        region=step.to_region,
        because=(reason, *explain_rehome(alone, step.to_region, world.topology)),
        fallbacks=_fallbacks(alone, step),
    )


def _fallbacks(alone: Decision, step: Rehome) -> tuple[NodeId, ...]:
    """Return the best of other regions, then of the same, as core/allocate.py does."""
    elsewhere = [
        c.node for c in alone.candidates if c.node is not None and c.region != step.to_region
    ]
    beside = [id_ for id_ in alone.fallbacks if id_ not in (*elsewhere, step.to_node)]
    return tuple([*elsewhere, *beside][:MAX_FALLBACKS])
