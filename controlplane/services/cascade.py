"""Keeps the cascade of each room in step with who sits where. Level-triggered: a refresh too many does nothing.

Every replica plans every room, from the same seats to the same links, and wakes the nodes that it hears. The replica
whose duty the room is says so in an event.

Make before break: who was moved is still on the old node until the client has connected to the new one. So the old
node keeps its links for MOVE_GRACE_S, as if that person still sat there.
"""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from controlplane.core.cascade import Ends, LinkDiff, Links, diff, ends, plan, validate
from controlplane.core.model import Assignment, NodeId, NodeState, RoomId
from controlplane.core.session import LinkSpec
from controlplane.core.sums import Sums, adding
from controlplane.core.world import World
from controlplane.services.duties import Duties
from controlplane.services.ports import Clock, FleetNotifier
from controlplane.services.world import Worlds
from controlplane.store.base import Store

log = structlog.get_logger(__name__)

MOVE_GRACE_S = 5.0
"""A moved participant may still receive at its old node for this long: an event to the signalling server, one to the
client, ICE and DTLS take about a second on any path."""

AT_ONCE = 50
"""Rooms that are planned before others get their turn: 2 ms."""


@dataclass(frozen=True, slots=True)
class _Left:
    """Somebody who sits elsewhere now, with the old seat."""

    seat: Assignment
    at: float

    def is_over(self, now: float) -> bool:
        return not 0 <= now - self.at < MOVE_GRACE_S


class Cascades:
    """Plans the links of rooms, says what changed, and wakes the nodes concerned."""

    def __init__(
        self, store: Store, worlds: Worlds, notifier: FleetNotifier, duties: Duties, clock: Clock
    ) -> None:
        self._store = store
        self._worlds = worlds
        self._notifier = notifier
        self._duties = duties
        self._clock = clock
        self._known: dict[RoomId, tuple[Ends, Links]] = {}
        """The links of each room, and what they follow from, as of its last refresh: what changes are seen against."""
        self._of_node: dict[NodeId, list[LinkSpec]] = {}
        """The same links by the nodes at their ends, in order: to sort a thousand takes a millisecond."""
        self._told: dict[NodeId, tuple[LinkSpec, ...] | None] = {}
        """What was answered about a node; None behind a change."""
        self._turns: WeakValueDictionary[RoomId, asyncio.Lock] = WeakValueDictionary()
        self._left: dict[RoomId, list[_Left]] = {}
        """As many as were moved within MOVE_GRACE_S."""
        self._there: frozenset[NodeId] = frozenset()
        """Nodes that were not lost at the last sweep."""

    async def links(self, room: RoomId) -> Links:
        """Return the links that the room needs now; changes nothing."""
        now = self._clock.now()
        world = await self._worlds.load(now=now)
        return plan(room, await self._present(room, now), world)

    async def of_node(self, node: NodeId, *, anew: bool = False) -> tuple[LinkSpec, ...]:
        """Return the links of all rooms that this node takes part in, in order: the same object while none changes.

        The rooms of a node that was not asked about before are planned first if they never were; with `anew` all of
        the node's are.
        """
        if anew or node not in self._told:
            rooms = {one.room for one in await self._store.assignments_on(node)}
            unknown = [id_ for id_ in rooms if id_ not in self._known]
            await self._refresh_all(rooms if anew else unknown)
        links = self._told.get(node)
        if links is None:
            links = self._told[node] = tuple(self._of_node.get(node, ()))
        return links

    def forget(self, node: NodeId) -> None:
        """Drop what is only kept for a node's sake."""
        self._told.pop(node, None)

    def moved(self, before: Assignment, after: Assignment) -> None:
        """Note that somebody sits on another node now; `refresh` is the caller's, once for a room."""
        if before.node != after.node:
            left = _Left(before, self._clock.now())
            self._left.setdefault(before.room, []).append(left)

    async def sweep(self) -> None:
        """Let go of old seats whose time is over, and of nodes that were lost. Call about 4 times a second."""
        now = self._clock.now()
        over = [room for room, left in self._left.items() if any(one.is_over(now) for one in left)]
        for room in over:
            staying = [one for one in self._left.pop(room) if not one.is_over(now)]
            if staying:
                self._left[room] = staying
        nodes = await self._store.nodes()
        there = frozenset(id_ for id_, one in nodes.items() if one.state is not NodeState.LOST)
        changed, self._there = there ^ self._there, there
        rooms = set(over)
        for node in changed:
            rooms |= {one.room for one in await self._store.assignments_on(node)}
        await self._refresh_all(rooms)

    async def refresh(self, room: RoomId) -> None:
        """Plan the room anew. On a change: append cascade.changed and wake the nodes at either end of it."""
        await self._refresh(room, None)

    # --- inside ---------------------------------------------------------------------------------

    async def _refresh_all(self, rooms: Iterable[RoomId]) -> None:
        world: World | None = None
        for index, room in enumerate(sorted(rooms)):
            if world is None or index % AT_ONCE == 0:
                # Others go in between, and a node may be lost or the topology replaced.
                await asyncio.sleep(0)
                world = await self._worlds.load(now=self._clock.now())
            await self._refresh(room, world)

    async def _refresh(self, room: RoomId, world: World | None) -> None:
        """Plan a room. One refresh of a room at a time, so that what is known never goes back to an older reading."""
        turn = self._turns.setdefault(room, asyncio.Lock())
        if turn.locked():
            world = None  # by then it would be old
        async with turn:
            now = self._clock.now()
            world = world or await self._worlds.load(now=now)
            sums = await self._present(room, now)
            known, before = self._known.get(room, (None, frozenset()))
            needed = ends(sums, world)
            if needed == known:
                return  # most joins: a room of many nodes has hundreds of links
            after = plan(room, sums, world)
            problems = validate(after, room, sums, world)
            if problems:
                log.error("cascade refused", room=room, problems=problems)
                return
            if needed.receivers:
                self._known[room] = needed, after
            else:
                self._known.pop(room, None)
            change = diff(before, after)
            if not change.nodes:
                return
            self._keep(change)
            if self._duties.is_mine(room):
                links = [{"from": link.from_node, "to": link.to_node} for link in sorted(after)]
                data = {"room": room, "links": links}
                await self._store.append_event("cascade.changed", data, now=now)
            self._notifier.wake(change.nodes)

    def _keep(self, change: LinkDiff) -> None:
        for link in change.removed:
            for node in (link.from_node, link.to_node):
                here = self._of_node[node]
                del here[bisect_left(here, link)]
                if not here:
                    del self._of_node[node]
        for link in change.added:
            for node in (link.from_node, link.to_node):
                insort(self._of_node.setdefault(node, []), link)
        for node in change.nodes & self._told.keys():
            self._told[node] = None

    async def _present(self, room: RoomId, now: float) -> Sums:
        """Return the room with those who are still on the node that they are moved away from."""
        sums = await self._store.sums(room)
        # Somebody alone has nobody to keep a link to.
        if room in self._left and sum(group.count for group in sums.values()) > 1:
            for one in self._left[room]:
                if not one.is_over(now):
                    sums = adding(sums, one.seat)
        return sums
