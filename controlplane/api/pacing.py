"""A constant rate of snapshots, on quiet days and on bad ones.

Each node gets its snapshot again every ROUND_S, whether or not it changed. When many change at once, they take the
turns of those that did not: what is sent per second does not depend on what happens, and neither does the work.
"""

import asyncio
from collections import deque
from collections.abc import Callable

ROUND_S = 2.5
"""How often each node gets its snapshot: what tells it that its replica is there, too (relay/api/line.py)."""

MIN_RATE = 100.0
"""Snapshots a second of small fleets, where nobody should wait for a turn."""

CHANGED = 2.0
"""Turns that a snapshot takes which changed: to make it costs twice what it costs to send one again."""

BURST_S = 0.1
"""Turns that nobody took are kept for so long."""

TICK_S = 0.01
"""How long whoever has to wait does so at least."""


class Pace:
    """Gives turns: at once while there are any, then in the order of asking."""

    def __init__(self, sessions: Callable[[], int], now: Callable[[], float]) -> None:
        """`sessions` says how many there are, `now` what time it is, in seconds of any clock that only grows."""
        self._sessions = sessions
        self._now = now
        self._turns = 1.0
        self._counted_at = now()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> bool:
        """Take a turn for a snapshot that did not change; False when there is none to spare."""
        return self._take(1.0)

    async def turn(self) -> None:
        """Wait for a turn for a snapshot that changed."""
        if self._take(CHANGED):
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        self._wind_up()
        await mine

    def _take(self, turns: float) -> bool:
        self._count()
        if self._waiting or self._turns < turns:
            return False
        self._turns -= turns
        return True

    def _count(self) -> None:
        now = self._now()
        rate = max(MIN_RATE, self._sessions() / ROUND_S)
        most = max(CHANGED, rate * BURST_S)
        self._turns = min(self._turns + (now - self._counted_at) * rate, most)
        self._counted_at = now

    def _wind_up(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._give)

    def _give(self) -> None:
        self._timer = None
        self._count()
        while self._waiting and self._turns >= CHANGED:
            mine = self._waiting.popleft()
            if not mine.done():  # who was cancelled needs none
                mine.set_result(None)
                self._turns -= CHANGED
        self._wind_up()
