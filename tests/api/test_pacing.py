"""What is sent per second does not depend on what happens."""

import asyncio

import pytest

from controlplane.api.pacing import BURST_S, CHANGED, MIN_RATE, ROUND_S, Pace


async def test_turns_come_at_the_rate_of_the_rounds_however_many_want_one() -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(lambda: 2000, loop.time)
    given: list[float] = []

    async def want() -> None:
        await pace.turn()
        given.append(loop.time())

    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        for _ in range(400):
            group.create_task(want())
    rate = 2000 / ROUND_S / CHANGED
    assert given == sorted(given)
    assert 0.8 * 400 / rate - BURST_S <= given[-1] - begun <= 400 / rate + 0.3


async def test_what_did_not_change_waits_behind_what_did() -> None:
    now = [0.0]
    pace = Pace(lambda: 0, lambda: now[0])
    assert pace.take()
    assert not pace.take()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(pace.turn())
        await asyncio.sleep(0)
        now[0] += CHANGED / MIN_RATE
        assert not pace.take(), "the turn is another's"
        await waiting
    now[0] += 1.1 / MIN_RATE
    assert pace.take()


async def test_turns_that_nobody_took_are_not_kept_for_long() -> None:
    now = [0.0]
    pace = Pace(lambda: 0, lambda: now[0])
    now[0] = 3600.0
    taken = 0
    while pace.take():
        taken += 1
    assert taken == pytest.approx(MIN_RATE * BURST_S, abs=1)


async def test_who_does_not_wait_any_more_takes_no_turn() -> None:
    now = [0.0]
    pace = Pace(lambda: 0, lambda: now[0])
    assert pace.take()
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(pace.turn())
        stays = group.create_task(pace.turn())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        now[0] += CHANGED / MIN_RATE
        await stays
    assert gone.cancelled()
