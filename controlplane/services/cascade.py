"""Keeps the cascade of each room in step with who sits where. Level-triggered: a refresh too many does nothing."""

import asyncio
from weakref import WeakValueDictionary

import structlog

from controlplane.core.cascade import Links, diff, plan, validate
from controlplane.core.model import NodeId, RoomId
from controlplane.services.ports import Clock, FleetNotifier
from controlplane.services.world import Worlds
from controlplane.store.base import Store

log = structlog.get_logger(__name__)


class Cascades:
    """Plans the links of rooms, says what changed, and wakes the nodes concerned."""

    def __init__(self, store: Store, worlds: Worlds, notifier: FleetNotifier, clock: Clock) -> None:
        self._store = store
        self._worlds = worlds
        self._notifier = notifier
        self._clock = clock
        self._known: dict[RoomId, Links] = {}
        """The links of each room that has any, as of its last refresh: what changes are seen against."""
        self._turns: WeakValueDictionary[RoomId, asyncio.Lock] = WeakValueDictionary()

    async def links(self, room: RoomId) -> Links:
        """Return the links that the room needs now; changes nothing."""
        world = await self._worlds.load(now=self._clock.now())
        return plan(room, await self._store.sums(room), world)

    async def of_node(self, node: NodeId) -> Links:
        """Return the links of all rooms that this node takes part in."""
        world = await self._worlds.load(now=self._clock.now())
        rooms = {one.room for one in await self._store.assignments_on(node)}
        links = [
            link
            for room in sorted(rooms)
            for link in plan(room, await self._store.sums(room), world)
            if node in (link.from_node, link.to_node)
        ]
        return frozenset(links)

    async def refresh(self, room_id: RoomId) -> None:
        """Plan the room anew. On a change: append cascade.changed and wake the nodes at either end of it.

        One refresh of a room at a time, so that what is known never goes back to an older reading.
        """
        turn = self._turns.setdefault(room_id, asyncio.Lock())
        async with turn:
            now = self._clock.now()
            world = await self._worlds.load(now=now)
            sums = await self._store.sums(room_id)
            before = self._known.get(room_id, frozenset())
            after = plan(room_id, sums, world)
            change = diff(before, after)
            if not change.nodes:
                return
            problems = validate(after, room_id, sums, world)
            if problems:
                log.error("cascade refused", room=room_id, problems=problems)
                return
            if after:
                self._known[room_id] = after
            else:
                self._known.pop(room_id, None)
            links = [{"from": link.from_node, "to": link.to_node} for link in sorted(after)]
            await self._store.append_event(
                "cascade.changed", {"room": room_id, "links": links}, now=now
            )
            self._notifier.wake(change.nodes)
