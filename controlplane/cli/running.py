"""Runs an asynchronous command until it ends or somebody asks it to."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def run_command(main: Coroutine[Any, Any, int], *, when_stopped: int) -> int:
    """Run `main` and return its exit code; SIGINT and SIGTERM cancel it, then `when_stopped` is the code.

    Only the first signal counts: cleaning up is bounded in time, and is what a second Ctrl-C would spoil.
    """
    stopped = False

    async def until_signal() -> int:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            nonlocal stopped
            if task is not None and not stopped:
                stopped = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            return await main
        except asyncio.CancelledError:
            if stopped:
                return when_stopped
            raise

    return asyncio.run(until_signal())
