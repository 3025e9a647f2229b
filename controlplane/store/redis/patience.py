"""How long to wait for Redis, when it may be this process that was not there to hear the answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LATE_S = 0.05
"""A timer that fires so late says that the event loop stood still."""

GRACE_S = 0.1
"""What the loop then gets to look at what came meanwhile: the answer is mostly there."""


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after so many seconds, as asyncio.timeout does.

    It counts those of the other side: when this process stood still until the limit was over, whatever came in that
    time is read first. Otherwise a pause of half a second here would be taken for a Redis that is away.
    """
    loop = asyncio.get_running_loop()

    timers: list[asyncio.TimerHandle] = []

    def wait(more_s: float) -> None:
        timers.append(loop.call_later(more_s, check, loop.time() + more_s))

    def check(due_at: float) -> None:
        if loop.time() - due_at > LATE_S:
            wait(GRACE_S)
        else:
            limit.reschedule(loop.time())

    async with asyncio.timeout(None) as limit:
        wait(seconds)
        try:
            yield
        finally:
            timers[-1].cancel()
