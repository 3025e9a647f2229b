"""Dry runs: what a topology or a drain would do, by the code that would do it. Nothing here changes anything.

Plans are pure work on values, up to seconds of it: they run in a thread, one at a time, and the event loop goes on.
"""

import asyncio
from dataclasses import dataclass

from controlplane.core.drain_plan import DrainPlan, plan_drain
from controlplane.core.model import NodeId, NodeState, Room, RoomId
from controlplane.core.topology_diff import Change, diff
from controlplane.core.topology_plan import TopologyPlan, plan_change
from controlplane.services.ports import Clock
from controlplane.services.refusals import no_node, not_drainable
from controlplane.services.topologies import Topologies, TopologyDiff, TopologyParser
from controlplane.services.world import Worlds
from controlplane.store.base import Store

MAX_ROOMS = 1000
"""Rooms that a plan looks at, the first in order of id: some seconds of work."""

MAX_PEOPLE = 50_000
"""The same for people: a thousand large rooms would take minutes."""

ROOMS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class TopologyChange:
    """What a replacement would do."""

    summary: TopologyDiff
    changes: tuple[Change, ...]
    """Key by key."""
    plan: TopologyPlan
    rooms: int
    """All there are; `plan.rooms_examined` is how many of them were looked at."""


class Planning:
    """Use cases that answer "what if?"."""

    def __init__(
        self,
        store: Store,
        topologies: Topologies,
        worlds: Worlds,
        parser: TopologyParser,
        clock: Clock,
    ) -> None:
        self._store = store
        self._topologies = topologies
        self._worlds = worlds
        self._parse = parser
        self._clock = clock
        self._turn = asyncio.Lock()

    async def topology(self, text: str) -> TopologyChange:
        """Return what `Topologies.replace` would do. Raises InvalidInputError from the parser."""
        proposed = self._parse(text)
        async with self._turn:
            now = self._clock.now()
            summary = await self._topologies.dry_run(text)
            world = await self._worlds.load(now=now)
            rooms = await self._some_rooms()
            plan = await asyncio.to_thread(plan_change, world, proposed, rooms, now=now)
            totals = await self._store.totals()
            return TopologyChange(summary, diff(world.topology, proposed), plan, totals.rooms)

    async def drain(self, node: NodeId) -> DrainPlan:
        """Return where a node's people would go.

        Raises NotFoundError ("node-not-found"), ConflictError ("node-not-drainable").
        """
        async with self._turn:
            now = self._clock.now()
            world = await self._worlds.load(now=now)
            found = world.nodes.get(node)
            if found is None:
                raise no_node(node)
            if found.state is NodeState.LOST:
                raise not_drainable(node, found.why)
            here = sorted({one.room for one in await self._store.assignments_on(node)})
            rooms = [await self._store.room(room) for room in here]
            return await asyncio.to_thread(plan_drain, node, rooms, world, now=now)

    async def _some_rooms(self) -> list[Room]:
        found: list[Room] = []
        people = 0
        after: RoomId | None = None
        while len(found) < MAX_ROOMS and people < MAX_PEOPLE:
            page = await self._store.rooms(after=after, limit=ROOMS_AT_ONCE)
            for room in page:
                found.append(room)
                people += len(room.assignments)
            if len(page) < ROOMS_AT_ONCE:
                break
            after = page[-1].id
            await asyncio.sleep(0)  # each page looks at the ids of all rooms
        return found
