"""A master dies, or freezes, while people join: over real servers and Sentinels."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from controlplane.adapters.clock import SystemClock
from controlplane.core.model import Assignment, ParticipantId, RoomId
from controlplane.store.base import Admitted
from controlplane.store.redis.connect import connector_of
from controlplane.store.redis.store import RedisStore
from controlplane.store.redis.target import parse_target
from tests.store.build import proposal
from tests.store.sentinel import SentinelSetup
from tests.store.servers import RedisServer

JOINS_PER_S = 500
FAULT_AT_S = 1.0
LOAD_S = 6.0

ANSWER_S = 1.0
NORMAL_AGAIN_S = 4.0
"""The second that Sentinel waits, its election, and what a replica needs to find the new master."""


@dataclass(frozen=True)
class Answer:
    """What a join came to."""

    at: float
    took_s: float
    assignment: Assignment
    degraded: bool


@pytest.fixture
def sentinels() -> Iterator[SentinelSetup]:
    setup = SentinelSetup()
    yield setup
    setup.close()


@pytest.fixture
async def replicas(sentinels: SentinelSetup) -> AsyncIterator[list[RedisStore]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                RedisStore.opened(
                    connector_of(parse_target(sentinels.url)), replica=id_, now=SystemClock().now
                )
            )
            for id_ in ("one", "two")
        ]


def kill(server: RedisServer) -> None:
    server.kill()


def freeze(server: RedisServer) -> None:
    server.freeze()


@pytest.mark.e2e
@pytest.mark.parametrize("fault", [kill, freeze])
async def test_nobody_is_lost_when_the_master_goes(
    sentinels: SentinelSetup, replicas: list[RedisStore], fault: Callable[[RedisServer], None]
) -> None:
    loop = asyncio.get_running_loop()
    old = sentinels.master
    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        joining = group.create_task(join_on(replicas))
        await asyncio.sleep(FAULT_AT_S)
        fault(old)
        fault_at = loop.time()
        normal_at = await normal_again(replicas, behind=fault_at)
    answers = joining.result()
    if fault is freeze:
        old.thaw()

    assert len(answers) > 0.7 * JOINS_PER_S * LOAD_S
    assert max(one.took_s for one in answers) <= ANSWER_S
    assert normal_at - fault_at <= NORMAL_AGAIN_S
    during = [one for one in answers if one.degraded]
    assert during, "the fault has to be felt"
    assert all(one.at >= fault_at - begun - ANSWER_S for one in during)
    assert not any(one.degraded for one in answers if one.at > normal_at - begun + 0.5)

    epochs = {(one.assignment.participant, one.assignment.epoch) for one in answers}
    assert len(epochs) == len(answers), "nobody has two assignments"
    await everybody_is_known(sentinels, replicas, answers)


async def join_on(replicas: list[RedisStore]) -> list[Answer]:
    """New people join at both replicas, in rooms of five, at a rate that waits for nobody."""
    loop, clock = asyncio.get_running_loop(), SystemClock()
    begun = loop.time()
    answers: list[Answer] = []

    async def join(number: int) -> None:
        now, asked_at = clock.now(), loop.time()
        wanted = proposal(f"p{number}", room=f"r{number // 5}", session=f"s{number}", now=now)
        outcome = await replicas[number % 2].admit(
            wanted, replaces=None, event="participant.assigned", now=now
        )
        assert isinstance(outcome, Admitted)
        done_at = loop.time()
        answers.append(
            Answer(done_at - begun, done_at - asked_at, outcome.assignment, outcome.degraded)
        )

    async with asyncio.TaskGroup() as group:
        number = 0
        while (since := loop.time() - begun) < LOAD_S:
            while number < since * JOINS_PER_S:
                group.create_task(join(number))
                number += 1
            await asyncio.sleep(0.01)
    return answers


async def normal_again(replicas: list[RedisStore], *, behind: float) -> float:
    """Return when both replicas were in normal mode again, with nothing due; they have to have left it."""
    loop = asyncio.get_running_loop()
    left: set[str] = set()
    async with asyncio.timeout(20):
        while True:
            healths = [(one.replica, await one.health()) for one in replicas]
            left |= {id_ for id_, health in healths if health.mode == "degraded"}
            if len(left) == len(replicas) and all(
                health.mode == "normal" and health.pending < 100 for _, health in healths
            ):
                return loop.time()
            assert loop.time() - behind < 15
            await asyncio.sleep(0.01)


async def everybody_is_known(
    sentinels: SentinelSetup, replicas: list[RedisStore], answers: list[Answer]
) -> None:
    """What was answered is in both views and in the new master, as it was answered."""
    expected = {
        (one.assignment.room, one.assignment.participant): one.assignment.epoch for one in answers
    }
    async with asyncio.timeout(10):
        while True:
            views = [
                {(seat.room, seat.participant): seat.epoch for seat in one._view}
                for one in replicas
            ]
            pending = [(await one.health()).pending for one in replicas]
            if all(view == expected for view in views) and not any(pending):
                break
            await asyncio.sleep(0.05)
    client = replicas[0]._shards[0].client
    found: dict[tuple[RoomId, ParticipantId], int] = {}
    for room in {room for room, _ in expected}:
        for who, record in (await client.hgetall(f"{{tw:0}}:room:{room}")).items():
            found[room, ParticipantId(who.decode())] = int(record.split(b" ")[0])
    assert found == expected
    assert sentinels.servers
