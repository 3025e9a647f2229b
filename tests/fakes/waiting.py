"""Waiting in tests: poll a check that says why not, so that a failure explains itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.02


async def eventually(
    check: Callable[[], Awaitable[str | None] | str | None],
    timeout: float = 5.0,  # noqa: ASYNC109 - the limit is part of the sentence that a failure says
) -> None:
    """Wait until `check` returns None (or ""); fail with its last reason after `timeout` seconds."""
    until = asyncio.get_running_loop().time() + timeout
    while True:
        outcome = check()
        reason = await outcome if isinstance(outcome, Awaitable) else outcome
        if not reason:
            return
        if asyncio.get_running_loop().time() > until:
            raise AssertionError(f"after {timeout:g} s: {reason}")
        await asyncio.sleep(POLL_S)


def eventually_sync(check: Callable[[], str | None], timeout: float = 5.0) -> None:
    """Do the same in a test without an event loop."""
    until = time.monotonic() + timeout
    while reason := check():
        if time.monotonic() > until:
            raise AssertionError(f"after {timeout:g} s: {reason}")
        time.sleep(POLL_S)
