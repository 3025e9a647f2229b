"""The agent among several replicas of the control plane: one active session, one warm."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.api import agent
from relay.api.line import Patience
from tests.fakes.node_service_grpc import FakeNodeService
from tests.fakes.waiting import eventually
from tests.relay.test_agent import Subject, snapshot

AT_ONCE_S = 0.1


@pytest.fixture
async def replicas() -> AsyncIterator[list[FakeNodeService]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(FakeNodeService().running()) for _ in range(3)]


async def split(replicas: list[FakeNodeService]) -> tuple[FakeNodeService, FakeNodeService]:
    """Return the replica of the active session and that of the warm one, once there are both."""

    def both() -> str | None:
        hellos, standbys = (
            [len(kind) for kind in kinds]
            for kinds in zip(*((one.hellos, one.standbys) for one in replicas), strict=True)
        )
        return None if sum(hellos) and sum(standbys) else f"{hellos} hellos, {standbys} standbys"

    await eventually(both)
    [active] = [one for one in replicas if one.hellos]
    [warm] = [one for one in replicas if one.standbys and not one.hellos]
    return active, warm


def said_hello(replica: FakeNodeService) -> str | None:
    return None if replica.hellos else "no hello"


async def test_a_node_is_active_with_one_replica_and_warm_with_another(
    replicas: list[FakeNodeService], tmp_path: Path
) -> None:
    async with Subject(tmp_path, *(one.port for one in replicas)).running():
        active, warm = await split(replicas)
        active.send(snapshot(1, "x"))
        await eventually(active.answered("x"))
        await asyncio.sleep(0.3)
        assert [len(one.hellos) for one in (active, warm)] == [1, 0]
        assert sum(one.sessions for one in replicas) == 2
        assert (warm.standbys[0].node, warm.reports) == ("a", [])


async def test_when_the_active_session_breaks_the_warm_one_says_hello_at_once(
    replicas: list[FakeNodeService], tmp_path: Path
) -> None:
    async with Subject(tmp_path, *(one.port for one in replicas)).running() as node:
        active, warm = await split(replicas)
        active.send(snapshot(7, "x"))
        await eventually(active.answered("x"))
        active.hang_up()
        await eventually(lambda: said_hello(warm), timeout=AT_ONCE_S)
        assert warm.hellos[0].kept_snapshot == 7
        await eventually(lambda: None if warm.reports else "no report", timeout=AT_ONCE_S)
        was_connected = node.agent.connected
        warm.send(snapshot(8, "y"))
        await eventually(warm.answered("y"))
        assert (was_connected, node.agent.connected) == (False, True)
        others = [one for one in replicas if one is not warm]
        await eventually(
            lambda: None if sum(one.sessions for one in others) == 1 else "no new warm session"
        )


async def test_a_replica_that_is_ending_is_left_before_it_breaks(
    replicas: list[FakeNodeService], tmp_path: Path
) -> None:
    async with Subject(tmp_path, *(one.port for one in replicas)).running():
        active, warm = await split(replicas)
        active.send(snapshot(1, "x"))
        await eventually(active.answered("x"))
        active.say(ending=True)
        await eventually(lambda: said_hello(warm), timeout=AT_ONCE_S)
        reports = len(active.reports)
        await asyncio.sleep(0.7)
        assert len(active.reports) == reports, "the old replica hears nothing that would confuse it"


async def test_a_replica_that_is_ending_is_kept_while_there_is_no_other(tmp_path: Path) -> None:
    async with FakeNodeService().running() as only, Subject(tmp_path, only.port).running():
        await eventually(lambda: said_hello(only))
        only.say(ending=True)
        only.send(snapshot(1, "x"))
        await eventually(only.answered("x"))
        assert len(only.hellos) == 1
        assert only.standbys == []


async def test_other_replicas_are_learned_from_the_snapshot(
    replicas: list[FakeNodeService], tmp_path: Path
) -> None:
    first = replicas[0]
    async with Subject(tmp_path, first.port).running():
        await eventually(lambda: said_hello(first))
        first.send(snapshot(1, "x", control_planes=[one.target for one in replicas]))
        _, warm = await split(replicas)
        first.hang_up()
        await eventually(lambda: said_hello(warm), timeout=AT_ONCE_S)


async def test_a_frozen_replica_is_left_soon_when_there_is_another(
    replicas: list[FakeNodeService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patience, "HASTE_S", 0.6)
    async with Subject(tmp_path, *(one.port for one in replicas)).running():
        active, warm = await split(replicas)
        active.say()
        for _ in range(4):
            warm.say()
            await asyncio.sleep(0.1)
        await eventually(lambda: said_hello(warm), timeout=1)


async def test_a_replica_that_cannot_be_reached_does_not_keep_the_node_waiting(
    replicas: list[FakeNodeService], tmp_path: Path
) -> None:
    alive = replicas[0]
    async with FakeNodeService().running() as gone:
        pass
    async with Subject(tmp_path, gone.port, alive.port).running():
        await eventually(lambda: said_hello(alive), timeout=1)


async def test_one_replica_with_two_addresses_is_not_called_twice(
    replicas: list[FakeNodeService], tmp_path: Path
) -> None:
    replicas[1].refusal = replicas[0].refusal = "already-active: it is this very replica"
    async with Subject(tmp_path, *(one.port for one in replicas[:2])).running():
        await eventually(lambda: None if any(one.standbys for one in replicas) else "no standby")
        await asyncio.sleep(0.7)
        assert sum(len(one.standbys) for one in replicas) == 1
        assert sum(len(one.hellos) for one in replicas) == 1


async def test_a_node_comes_back_to_the_replica_that_it_prefers_when_that_has_settled(
    replicas: list[FakeNodeService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "SETTLED_S", 0.1)
    async with Subject(tmp_path, *(one.port for one in replicas)).running() as node:
        active, _ = await split(replicas)
        active.send(snapshot(1, "x", control_planes=[one.target for one in replicas]))
        await eventually(active.answered("x"))
        [best, second] = (
            next(one for one in replicas if one.target == target)
            for target in node.agent._replicas._learned[:2]
        )
        if active is best:
            active.hang_up()
            await eventually(lambda: said_hello(second))
        hellos = len(best.hellos)
        await eventually(
            lambda: None if len(best.hellos) > hellos else f"{len(best.hellos)} hellos", timeout=5
        )
