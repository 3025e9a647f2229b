"""Two replicas over a Redis Cluster, and one of its masters goes: killed, or frozen.

What is promised: everybody is answered all the time. Answers about rooms of the partitions that are away say
`degraded`, and those about other rooms do not. Once the cluster has elected the master's replica all is normal; nothing
that was acknowledged without `degraded` is lost, the replicas agree on everybody, and no two assignments of a person
ever had one epoch. The old master comes back as a replica, and from then on has to confirm what is written.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
from redis.crc import key_slot

from controlplane.adapters.clock import SystemClock
from controlplane.core.model import Assignment, ParticipantId, RoomId
from controlplane.store.base import Admitted, Conflict
from controlplane.store.redis import commit, shard
from controlplane.store.redis.connect import CLUSTER_PARTITIONS, connector_of, tag
from controlplane.store.redis.names import FLEET, partition_of
from controlplane.store.redis.store import RedisStore
from controlplane.store.redis.target import parse_target
from controlplane.store.view import Key
from tests.fakes.waiting import eventually
from tests.store.build import admit, proposal
from tests.store.cluster import MASTERS, SLOTS, ClusterSetup, follows
from tests.store.servers import RedisServer

NODE_TIMEOUT_MS = 1000

ANSWER_WITHIN_S = 6.0
"""A second is promised, of which the call that is given up takes 0.35; here it may take one."""
NORMAL_WITHIN_S = 30.0
BACK_WITHIN_S = 30.0
PAUSE_S = 0.05
ROUNDS = 5
TRIES = 20

NOW = SystemClock().now

log = logging.getLogger(__name__)
"""Figures: `pytest -o log_cli=true --log-cli-level=INFO` shows them."""


@pytest.fixture
def cluster() -> Iterator[ClusterSetup]:
    setup = ClusterSetup(
        "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
        # Or the other masters refuse everything, too, until the election.
        "--cluster-require-full-coverage", "no",
        replicas=True,
    )  # fmt: skip
    yield setup
    setup.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests is no Redis that is away, and no replica that does not confirm."""
    for module in (commit, shard):
        monkeypatch.setattr(module, "OPERATION_TIMEOUT_S", 1.0)
    monkeypatch.setattr(commit, "WAIT_MS", 600)


@asynccontextmanager
async def replicas(cluster: ClusterSetup) -> AsyncIterator[list[RedisStore]]:
    """Two that know of one server only, which is the one that goes."""

    def opened(id_: str) -> AbstractAsyncContextManager[RedisStore]:
        connector = connector_of(parse_target(cluster.url))
        return RedisStore.opened(connector, replica=id_, now=NOW)

    async with opened("a") as one, opened("b") as other:
        yield [one, other]


def rooms_of_all() -> list[RoomId]:
    """Return a room of each partition, in their order."""
    found: dict[int, RoomId] = {}
    for number in itertools.count():
        room = RoomId(f"room-{number}")
        found.setdefault(partition_of(room, CLUSTER_PARTITIONS), room)
        if len(found) == CLUSTER_PARTITIONS:
            return [found[partition] for partition in range(CLUSTER_PARTITIONS)]
    raise AssertionError


ROOMS = rooms_of_all()

OURS = {
    partition
    for partition in range(CLUSTER_PARTITIONS)
    if key_slot(tag(partition).encode()) < SLOTS // MASTERS
}
"""The partitions of the first master, which is the one that goes."""


@dataclass(frozen=True)
class Answer:
    """What one replica said to one join."""

    partition: int
    degraded: bool
    took_s: float


class Party:
    """People who join at both replicas, and what they were told."""

    def __init__(self, stores: Sequence[RedisStore]) -> None:
        self.stores = stores
        self.granted: dict[Key, dict[int, tuple[str, str]]] = {}
        """Epoch → session and node, of everything that was answered."""
        self.safe: dict[Key, int] = {}
        """The highest epoch that was acknowledged without `degraded`."""
        self.answers: list[Answer] = []
        self._numbers = itertools.count()

    async def round(self) -> list[Answer]:
        """In each room somebody new asks both replicas at once, and somebody else begins a new session at one."""
        number = next(self._numbers)
        joins = [
            work
            for room in ROOMS
            for work in (
                self._join(0, room, f"new-{number}", "s", "fra-1"),
                self._join(1, room, f"new-{number}", "s", "vir-1"),
                self._join(number % 2, room, "again", f"s{number}", f"node-{number}"),
            )
        ]
        answers = await asyncio.gather(*joins)
        self.answers += answers
        return answers

    async def _join(self, at: int, room: RoomId, who: str, session: str, node: str) -> Answer:
        """Join as the allocator does: look, propose, and look again when somebody else was faster."""
        store, key = self.stores[at], (room, ParticipantId(who))
        begun = asyncio.get_running_loop().time()
        outcome: Admitted | Conflict | None = None
        for _ in range(TRIES):
            live = await store.assignment(*key)
            seen = live.epoch if live and live.session != session else None
            wanted = proposal(who, room=room, session=session, node=node, now=NOW())
            outcome = await admit(store, wanted, replaces=seen, now=NOW())
            if isinstance(outcome, Admitted):
                break
        assert isinstance(outcome, Admitted), f"{key} is not admitted: {outcome}"
        self._note(key, outcome)
        took_s = asyncio.get_running_loop().time() - begun
        return Answer(partition_of(room, CLUSTER_PARTITIONS), outcome.degraded, took_s)

    def _note(self, key: Key, outcome: Admitted) -> None:
        seat = outcome.assignment
        told, mine = self.granted.setdefault(key, {}), (seat.session, str(seat.node))
        assert told.setdefault(seat.epoch, mine) == mine, f"{key}: two with epoch {seat.epoch}"
        if not outcome.degraded:
            self.safe[key] = max(seat.epoch, self.safe.get(key, 0))

    async def go_on_until(self, is_true: Callable[[], Awaitable[bool]], within_s: float) -> float:
        """Go on joining until it is true; return how long that took."""
        begun = asyncio.get_running_loop().time()
        while not await is_true():
            took_s = asyncio.get_running_loop().time() - begun
            states = [await one.health() for one in self.stores]
            assert took_s < within_s, f"it did not come true in {within_s} s: {states}"
            await self.round()
            await asyncio.sleep(PAUSE_S)
        return asyncio.get_running_loop().time() - begun

    async def is_normal(self) -> bool:
        states = [await one.health() for one in self.stores]
        return all(one.mode == "normal" for one in states)

    async def is_settled(self) -> str | None:
        """Return why what the replicas know is not the newest of all that was answered, None if it is."""
        for one in self.stores:
            health = await one.health()
            if health.mode != "normal" or health.pending:
                return f"{one.replica}: {health}"
        newest = {key: (top := max(told), *told[top]) for key, told in self.granted.items()}
        for one in self.stores:
            found = {(seat.room, seat.participant): what(seat) for seat in one._view}
            if found != newest:
                wrong = [key for key in found | newest if found.get(key) != newest.get(key)]
                return f"{one.replica} differs in {len(wrong)}: {wrong[:5]}"
        return None

    async def nothing_is_lost(self) -> None:
        for one in self.stores:
            for key, epoch in self.safe.items():
                assert await one.last_epoch(*key) >= epoch, f"{one.replica} lost {key}"


def what(seat: Assignment) -> tuple[int, str, str]:
    return seat.epoch, seat.session, str(seat.node)


def is_master(server: RedisServer) -> bool:
    return b"role:master" in server.command("INFO", "replication")


def degraded_of(answers: Sequence[Answer]) -> set[int]:
    return {one.partition for one in answers if one.degraded}


def safe_of(answers: Sequence[Answer]) -> set[int]:
    return {one.partition for one in answers if not one.degraded}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_master_of_the_cluster_goes_and_comes_back(
    cluster: ClusterSetup, fault: str
) -> None:
    assert FLEET in OURS
    async with replicas(cluster) as stores:
        party = Party(stores)
        for _ in range(ROUNDS):
            assert degraded_of(await party.round()) == set(), "all is well so far"
        await goes(cluster, party, fault)
        await comes_back(cluster, party, fault)
        await has_to_confirm(cluster, party)


async def goes(cluster: ClusterSetup, party: Party, fault: str) -> None:
    """The first master goes, and its replica is elected."""
    loop = asyncio.get_running_loop()
    old, new = cluster.servers[0], cluster.servers[MASTERS]
    begun = loop.time()
    party.answers.clear()
    before_election: list[Answer] = []

    async def is_elected() -> bool:
        if await asyncio.to_thread(is_master, new):
            return True
        before_election.extend(party.answers)
        party.answers.clear()
        return False

    await asyncio.to_thread(old.kill if fault == "kill" else old.freeze)
    await party.go_on_until(is_elected, NORMAL_WITHIN_S)
    elected_s = loop.time() - begun
    await party.go_on_until(party.is_normal, NORMAL_WITHIN_S)
    normal_s = loop.time() - begun
    assert not safe_of(before_election) & OURS
    answers = before_election + party.answers
    assert degraded_of(answers) == OURS, "other partitions do not feel anything"
    slowest_s = max(one.took_s for one in answers)
    assert slowest_s < ANSWER_WITHIN_S
    await eventually(party.is_settled, NORMAL_WITHIN_S)
    await party.nothing_is_lost()
    assert degraded_of(await party.round()) == set()
    figures = (round(one, 2) for one in (elected_s, normal_s, slowest_s))
    log.info("%s: elected after %s s, normal after %s s, slowest answer %s s", fault, *figures)


async def comes_back(cluster: ClusterSetup, party: Party, fault: str) -> None:
    """The old master becomes a replica, and nobody is disturbed."""
    old = cluster.servers[0]
    party.answers.clear()

    async def is_counted_on() -> bool:
        shards = [store._shards[partition] for store in party.stores for partition in OURS]
        return await asyncio.to_thread(follows, old) and all(one.committer.acks for one in shards)

    await asyncio.to_thread(old.start if fault == "kill" else old.thaw)
    took_s = await party.go_on_until(is_counted_on, BACK_WITHIN_S)
    for _ in range(ROUNDS):
        await party.round()
    assert degraded_of(party.answers) == set()
    assert await party.is_normal()
    await eventually(party.is_settled, NORMAL_WITHIN_S)
    await party.nothing_is_lost()
    log.info("%s: the old master has to confirm after %.2f s", fault, took_s)


async def has_to_confirm(cluster: ClusterSetup, party: Party) -> None:
    """What the new master alone has is not safe any more, now that it has a replica."""
    old = cluster.servers[0]
    old.freeze()
    answers = await party.round()
    old.thaw()
    assert degraded_of(answers) == OURS
    assert not await party.is_normal()
    # Nobody joins meanwhile.
    await eventually(party.is_settled, NORMAL_WITHIN_S)
