"""Rooms in which somebody came, went, was moved, or turned out to be elsewhere: they wait here to be looked at.

A room is looked at when it has been quiet for QUIET_S, so that a burst of joins is planned once, and at the latest
LATEST_S after its first change, so that a room where people come all the time is planned too. A room that people leave
has to be quiet for LEFT_QUIET_S.
"""

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.core.model import RoomId
from controlplane.services.ports import Counter

QUIET_S = 2.0
"""Whoever opens a link in an invitation does so within seconds of the others."""

LATEST_S = 5.0
"""Nobody should sit in a wrong place for longer because more people come."""

LEFT_QUIET_S = 30.0
"""A room that somebody leaves is mostly about to end. Nobody should be moved in the minute before they hang up."""

AGAIN_AT_MOST_S = 120.0
"""Nothing waits for longer; who seems to is left from before the clock was set back."""

MAX_ROOMS = 10_000
"""A megabyte, and two thousand changed rooms a second. What does not fit was looked at by its joins."""


@dataclass(slots=True)
class _Waiting:
    since: float
    """When the first change was noted; a room that is to be looked at once more waits from then on."""
    until: float


class ChangedRooms:
    """A bounded waiting room, each room in it once. Of too many, the one that has waited longest goes."""

    def __init__(
        self,
        dropped: Counter,
        is_mine: Callable[[RoomId], bool] = lambda _: True,
        *,
        max_rooms: int = MAX_ROOMS,
    ) -> None:
        """`dropped` counts the rooms that did not fit; a room that is not `is_mine` is another replica's to look at."""
        self._dropped = dropped
        self._is_mine = is_mine
        self._max = max_rooms
        self._waiting: dict[RoomId, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, room: RoomId, *, now: float) -> None:
        """Note that a room has changed."""
        one = self._waiting.get(room)
        if one is not None and one.since <= now:
            one.until = min(now + QUIET_S, one.since + LATEST_S)
        else:
            self._put(room, _Waiting(now, now + QUIET_S))

    def left(self, room: RoomId, *, now: float) -> None:
        """Note that somebody left a room: if nobody else does for LEFT_QUIET_S, it goes on without them."""
        one = self._waiting.get(room)
        if one is None or one.since > now:
            self._put(room, _Waiting(now + LEFT_QUIET_S, now + LEFT_QUIET_S))

    def again(self, room: RoomId, *, at: float) -> None:
        """Note that a room should be looked at once more, unless it changes before."""
        if room not in self._waiting:
            self._put(room, _Waiting(at, at))

    def take(self, limit: int, *, now: float) -> list[RoomId]:
        """Remove and return up to `limit` rooms whose time has come, the longest waiting first."""
        due: list[RoomId] = []
        for room, one in self._waiting.items():
            if not now < one.until <= now + AGAIN_AT_MOST_S:
                due.append(room)
                if len(due) == limit:
                    break
        for room in due:
            del self._waiting[room]
        return [room for room in due if self._is_mine(room)]

    def _put(self, room: RoomId, waiting: _Waiting) -> None:
        self._waiting.pop(room, None)
        self._waiting[room] = waiting
        if len(self._waiting) > self._max:
            del self._waiting[next(iter(self._waiting))]
            self._dropped.inc()
