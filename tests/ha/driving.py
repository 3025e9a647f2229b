"""Runs a driver in a process of its own, so that slow tests do not look like slow answers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.ha.system import KEY, Process

RATE = int(os.environ.get("THALWEG_HA_RATE", "150"))
"""Joins a second. Two replicas, Redis, Sentinels, nodes and the driver share the cores of one machine: with 500
a second two cores are full, and a neighbour makes answers late."""
ENDS_WITHIN_S = 15.0


@asynccontextmanager
async def driving(
    folder: Path,
    urls: Sequence[str],
    seconds: float,
    *,
    rate: int = RATE,
    is_cut_short: bool = False,
) -> AsyncIterator[Path]:
    """Join for so many seconds, or until the block ends if it is cut short; yield where the driver tells."""
    out = folder / "told.json"
    arguments = [str(out), KEY, str(rate), str(seconds), "", *urls]
    driver = Process(
        "driver", [sys.executable, "-m", "tests.ha.driver", *arguments], folder / "driver.log"
    )
    await asyncio.to_thread(driver.start)
    try:
        yield out
        assert driver.child is not None
        if is_cut_short:
            assert driver.child.poll() is None, "the driver ended before what it was to see"
            driver.send(signal.SIGTERM)
            seconds = 0.0
        code = await asyncio.to_thread(driver.child.wait, seconds + ENDS_WITHIN_S)
        assert code == 0, await asyncio.to_thread(driver.tail)
    finally:
        await asyncio.to_thread(driver.stop)
