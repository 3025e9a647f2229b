"""What other replicas did, as far as this one has to do something about it.

The store knows already; here follow what each replica keeps for itself: who is on the way to which node, the links of
the rooms, the sessions of the nodes that it hears, and the rooms that are its duty to look at.
"""

import asyncio

import structlog

from controlplane.core.model import Assignment, RoomId
from controlplane.core.sums import access_rtt
from controlplane.services.cascade import Cascades
from controlplane.services.changed_rooms import ChangedRooms
from controlplane.services.duties import Duties
from controlplane.services.placements import Placements
from controlplane.services.ports import Clock
from controlplane.services.presence import NEWS_MS
from controlplane.store.base import Change, Store

log = structlog.get_logger(__name__)


class Following:
    """Listens to the store from its making on; `run` does what takes longer than listening may."""

    def __init__(
        self,
        *,
        store: Store,
        duties: Duties,
        cascades: Cascades,
        placements: Placements,
        changed: ChangedRooms,
        clock: Clock,
    ) -> None:
        self._duties = duties
        self._cascades = cascades
        self._placements = placements
        self._changed = changed
        self._clock = clock
        self._rooms: dict[RoomId, None] = {}
        """Rooms whose links are to be planned anew, each once: as many as there are rooms."""
        self._news = asyncio.Event()
        store.watch(self._take)

    async def run(self) -> None:
        """Plan the rooms that other replicas changed, until cancelled."""
        while True:
            await self._news.wait()
            await self.catch_up()

    async def catch_up(self) -> None:
        """Plan the rooms that were changed until now."""
        self._news.clear()
        rooms, self._rooms = self._rooms, {}
        for room in rooms:
            await self._cascades.refresh(room)
            await asyncio.sleep(0)

    def _take(self, change: Change) -> None:
        before, after = change.before, change.after
        one = after or before
        if one is None:
            return
        self._follow_placement(before, after)
        is_new = before is None or after is None or before.epoch != after.epoch
        if is_new:
            if before is not None and after is not None:
                self._cascades.moved(before, after)
            self._rooms[one.room] = None
            self._news.set()
        if self._duties.is_mine(one.room):
            self._note(one.room, before, after, is_new=is_new)

    def _follow_placement(self, before: Assignment | None, after: Assignment | None) -> None:
        one = after or before
        if one is None:
            return
        key = (one.room, one.participant)
        if after is None or after.live:
            self._placements.forget(key)
        elif before is None or before.epoch != after.epoch:
            self._placements.note(after.node, key, now=self._clock.now())

    def _note(
        self,
        room: RoomId,
        before: Assignment | None,
        after: Assignment | None,
        *,
        is_new: bool,
    ) -> None:
        now = self._clock.now()
        if after is None:
            self._changed.left(room, now=now)
        elif is_new or before is None or _is_other_rtt(before, after):
            self._changed.note(room, now=now)


def _is_other_rtt(before: Assignment, after: Assignment) -> bool:
    if before.rtts is after.rtts:
        return False
    return abs(access_rtt(before).rtt_ms - access_rtt(after).rtt_ms) > NEWS_MS
