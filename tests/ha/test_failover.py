"""Two replicas over Redis with Sentinel, joins at a steady rate, and the master goes: killed, or frozen.

What is promised: every join is answered within a second; nobody has two places with one epoch; what was acknowledged
without `degraded` is not lost; four seconds later all is as before.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ha.driver import ANSWER_WITHIN_S, Driver, read
from tests.ha.driving import driving
from tests.ha.system import System, running, until
from tests.store.sentinel import NAME, SentinelSetup

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

FAULT_AT_S = 2.0
NORMAL_WITHIN_S = 4.0
FOLLOWED_WITHIN_S = 2.0
"""When Sentinels disagree at first, they vote again five seconds later; replicas can only follow them."""
SETTLED_WITHIN_S = 20.0

log = logging.getLogger(__name__)
"""Figures: `pytest -o log_cli=true --log-cli-level=INFO` shows them."""


@asynccontextmanager
async def sentinels() -> AsyncIterator[SentinelSetup]:
    redis = await asyncio.to_thread(SentinelSetup)
    try:
        yield redis
    finally:
        await asyncio.to_thread(redis.close)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_the_master_goes(tmp_path: Path, fault: str) -> None:
    async with sentinels() as redis, running(tmp_path, redis.url) as system:
        async with driving(tmp_path, list(system.urls.values()), 9.0) as out:
            await asyncio.sleep(FAULT_AT_S)
            at = time.monotonic()
            master = redis.servers[0]
            await asyncio.to_thread(master.kill if fault == "kill" else master.freeze)
            elected_s = await _elected(redis, at)
        if fault == "freeze":
            master.thaw()
        driver = await asyncio.to_thread(read, out)
        await _holds(driver, system)
        span = driver.degraded_span()
        assert span is not None, "the fault was not felt"
        first, last = (round(driver.began + one - at, 2) for one in span)
        slowest = round(driver.slowest_s(), 3)
        log.info(
            "%s: %d joins, slowest %s s, degraded %s to %s s, new master after %.2f s",
            fault,
            len(driver.told),
            slowest,
            first,
            last,
            elected_s,
        )
        assert last <= max(NORMAL_WITHIN_S, elected_s + FOLLOWED_WITHIN_S)


async def test_a_replica_goes_between_its_write_and_its_answer(tmp_path: Path) -> None:
    async with sentinels() as redis, running(tmp_path, redis.url) as system:
        async with driving(tmp_path, [system.urls["a"], system.urls["b"]], 4.0) as out:
            await asyncio.sleep(FAULT_AT_S)
            # What is written now waits for Redis' own replicas, and so does its answer.
            for server in redis.servers[1:]:
                server.freeze()
            await asyncio.sleep(0.03)
            victim = system.replicas["a"].child
            assert victim is not None
            victim.kill()
            await asyncio.to_thread(victim.wait)
            for server in redis.servers[1:]:
                server.thaw()
        driver = await asyncio.to_thread(read, out)
        assert not driver.failed, driver.failed[:5]
        assert driver.slowest_s() <= ANSWER_WITHIN_S
        again = [one for one in driver.told if one.tries > 1 and not one.created]
        assert again, "nobody was written and not answered: the test missed its moment"
        # Whoever asked again got what was written: nobody was assigned twice.
        seats = await system.seats("b")
        for one in driver.told:
            assert seats[one.room, one.participant] == (one.node, one.epoch)


async def _elected(redis: SentinelSetup, at: float) -> float:
    """Return how many seconds after `at` the Sentinels told of another master."""
    gone = redis.servers[0].port

    async def elected() -> bool:
        asked = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME
        answer = await asyncio.to_thread(redis.sentinels[0].command, *asked)
        return int(answer.split(b"\r\n")[4]) != gone

    await until(elected, "there is another master", [], SETTLED_WITHIN_S)
    return time.monotonic() - at


async def _holds(driver: Driver, system: System) -> None:
    """Check what is promised at all times, and afterwards."""
    assert not driver.failed, driver.failed[:5]
    assert driver.slowest_s() <= ANSWER_WITHIN_S
    assert not driver.conflicts()

    async def settled() -> bool:
        return [await system.health(name) for name in system.urls] == ["ready", "ready"]

    await until(settled, "both replicas are normal again", [], SETTLED_WITHIN_S)
    seen = [await system.seats(name) for name in system.urls]
    assert seen[0] == seen[1], "the replicas do not agree"
    for one in driver.told:
        assert (one.room, one.participant) in seen[0], one
        if not one.degraded:
            assert seen[0][one.room, one.participant][1] >= one.epoch, one
