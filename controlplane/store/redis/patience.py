"""How long to wait for Redis, when it may be this process that was not there to hear the answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LATE_S = 0.05
"""A timer that fires so late says that the event loop stood still."""

GRACE_S = 0.1
"""What the loop then gets to look at what came meanwhile: the answer is mostly there."""

_Timer = list[asyncio.TimerHandle]
"""The one that runs."""


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after so many seconds, as asyncio.timeout does.

    It counts those of the other side: when this process stood still until the limit was over, whatever came in that
    time is read first. Otherwise a pause of half a second here would be taken for a Redis that is away.

    Leaves no reference cycle: every call of Redis goes through here, and the collector rarely looks (adapters/garbage).
    """
    async with asyncio.timeout(None) as limit:
        timer: _Timer = []
        _look_in(seconds, limit, timer)
        try:
            yield
        finally:
            timer[0].cancel()


def _look_in(seconds: float, limit: asyncio.Timeout, timer: _Timer) -> None:
    loop = asyncio.get_running_loop()
    timer[:] = [loop.call_later(seconds, _look, loop.time() + seconds, limit, timer)]


def _look(due_at: float, limit: asyncio.Timeout, timer: _Timer) -> None:
    now = asyncio.get_running_loop().time()
    if now - due_at > LATE_S:
        _look_in(GRACE_S, limit, timer)
    else:
        limit.reschedule(now)
