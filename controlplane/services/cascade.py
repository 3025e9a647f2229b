"""Keeps the cascade of each room in step with who sits where. Level-triggered: a refresh too many does nothing.

Make before break: who was moved is still on the old node until the client has connected to the new one. So the old
node keeps its links for MOVE_GRACE_S, as if that person still sat there.
"""

import asyncio
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from controlplane.core.cascade import Ends, Links, diff, ends, plan, plan_of_node, validate
from controlplane.core.model import Assignment, NodeId, RoomId
from controlplane.core.sums import Sums, adding
from controlplane.services.ports import Clock, FleetNotifier
from controlplane.services.world import Worlds
from controlplane.store.base import Store

log = structlog.get_logger(__name__)

MOVE_GRACE_S = 5.0
"""A moved participant may still receive at its old node for this long: an event to the signalling server, one to the
client, ICE and DTLS take about a second on any path."""


@dataclass(frozen=True, slots=True)
class _Left:
    """Somebody who sits elsewhere now, with the old seat."""

    seat: Assignment
    at: float

    def is_over(self, now: float) -> bool:
        return not 0 <= now - self.at < MOVE_GRACE_S


class Cascades:
    """Plans the links of rooms, says what changed, and wakes the nodes concerned."""

    def __init__(self, store: Store, worlds: Worlds, notifier: FleetNotifier, clock: Clock) -> None:
        self._store = store
        self._worlds = worlds
        self._notifier = notifier
        self._clock = clock
        self._known: dict[RoomId, tuple[Ends, Links]] = {}
        """The links of each room that has any, and what they follow from, as of its last refresh: what changes are seen
        against."""
        self._turns: WeakValueDictionary[RoomId, asyncio.Lock] = WeakValueDictionary()
        self._left: dict[RoomId, list[_Left]] = {}
        """As many as were moved within MOVE_GRACE_S."""

    async def links(self, room: RoomId) -> Links:
        """Return the links that the room needs now; changes nothing."""
        now = self._clock.now()
        world = await self._worlds.load(now=now)
        return plan(room, await self._present(room, now), world)

    async def of_node(self, node: NodeId) -> Links:
        """Return the links of all rooms that this node takes part in."""
        now = self._clock.now()
        world = await self._worlds.load(now=now)
        rooms = {one.room for one in await self._store.assignments_on(node)}
        rooms |= {
            room for room, left in self._left.items() if any(one.seat.node == node for one in left)
        }
        links = [
            link
            for room in sorted(rooms)
            for link in plan_of_node(room, node, await self._present(room, now), world)
        ]
        return frozenset(links)

    def moved(self, before: Assignment, after: Assignment) -> None:
        """Note that somebody sits on another node now; `refresh` is the caller's, once for a room."""
        if before.node != after.node:
            left = _Left(before, self._clock.now())
            self._left.setdefault(before.room, []).append(left)

    async def sweep(self) -> None:
        """Let go of old seats whose time is over. Call about 4 times a second."""
        now = self._clock.now()
        over = [room for room, left in self._left.items() if any(one.is_over(now) for one in left)]
        for room in over:
            staying = [one for one in self._left.pop(room) if not one.is_over(now)]
            if staying:
                self._left[room] = staying
            await self.refresh(room)

    async def refresh(self, room_id: RoomId) -> None:
        """Plan the room anew. On a change: append cascade.changed and wake the nodes at either end of it.

        One refresh of a room at a time, so that what is known never goes back to an older reading.
        """
        turn = self._turns.setdefault(room_id, asyncio.Lock())
        async with turn:
            now = self._clock.now()
            world = await self._worlds.load(now=now)
            sums = await self._present(room_id, now)
            known, before = self._known.get(room_id, (None, frozenset()))
            needed = ends(sums, world)
            if needed == known:
                return  # most joins: a room of many nodes has hundreds of links
            after = plan(room_id, sums, world)
            change = diff(before, after)
            if not change.nodes:
                return
            problems = validate(after, room_id, sums, world)
            if problems:
                log.error("cascade refused", room=room_id, problems=problems)
                return
            if after:
                self._known[room_id] = needed, after
            else:
                self._known.pop(room_id, None)
            links = [{"from": link.from_node, "to": link.to_node} for link in sorted(after)]
            await self._store.append_event(
                "cascade.changed", {"room": room_id, "links": links}, now=now
            )
            self._notifier.wake(change.nodes)

    async def _present(self, room: RoomId, now: float) -> Sums:
        """Return the room with those who are still on the node that they are moved away from."""
        sums = await self._store.sums(room)
        # Somebody alone has nobody to keep a link to.
        if room in self._left and sum(group.count for group in sums.values()) > 1:
            for one in self._left[room]:
                if not one.is_over(now):
                    sums = adding(sums, one.seat)
        return sums
