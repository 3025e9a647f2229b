"""What is true of the store over Redis alone: replicas that follow each other, and spells without Redis."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from controlplane.adapters.clock import SystemClock
from controlplane.core.learned import RttSample
from controlplane.core.model import Drain, LinkStatus, NodeId, ParticipantId, RegionId, RoomId
from controlplane.core.session import NO_FIGURES, LinkFigures, LinkReport
from controlplane.errors import UnavailableError
from controlplane.store.base import Admitted, Change, Conflict
from controlplane.store.redis import event_log, leases
from controlplane.store.redis.connect import connector_of
from controlplane.store.redis.store import RedisStore
from controlplane.store.redis.target import parse_target
from tests.core.build import node as a_node
from tests.store.build import admit, admitted, ended_log, moved_to, proposal, take
from tests.store.servers import RedisServer

ANA = (RoomId("standup"), ParticipantId("ana"))
NOW = SystemClock().now

_names = itertools.count()


@asynccontextmanager
async def replica(server: RedisServer) -> AsyncIterator[RedisStore]:
    connector = connector_of(parse_target(server.url))
    id_ = f"r{next(_names)}"
    async with RedisStore.opened(connector, replica=id_, now=SystemClock().now) as store:
        yield store


@pytest.fixture
async def two(redis_server: RedisServer) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    redis_server.command("FLUSHALL")
    async with replica(redis_server) as one, replica(redis_server) as other:
        yield one, other


async def until(is_true: Callable[[], Awaitable[bool]], timeout_s: float = 3.0) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not await is_true():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true"
        await asyncio.sleep(0.005)


async def same_seats(*stores: RedisStore) -> bool:
    seen = [{(one.room, one.participant): one.epoch for one in store._view} for store in stores]
    return all(one == seen[0] for one in seen)


async def has(store: RedisStore, epoch: int) -> bool:
    found = await store.assignment(*ANA)
    return found is not None and found.epoch == epoch


# --- following ------------------------------------------------------------------------------------


async def test_a_retry_at_another_replica_gets_the_same_answer(
    two: tuple[RedisStore, RedisStore],
) -> None:
    """The first one died between writing and answering, and nobody has read the log yet."""
    first = await admitted(two[0], proposal(now=NOW()), now=NOW())
    again = await admit(two[1], proposal(node="vir-1", now=NOW()), now=NOW())
    assert isinstance(again, Admitted)
    assert (again.created, again.degraded) == (False, False)
    assert (again.assignment.epoch, again.assignment.node) == (first.epoch, first.node)


async def test_who_decided_on_an_old_view_is_told_what_is_true(
    two: tuple[RedisStore, RedisStore],
) -> None:
    one, other = two
    first = await admitted(one, proposal(now=NOW()), now=NOW())
    outcome = await admit(other, proposal(session="s2", now=NOW()), now=NOW())
    assert isinstance(outcome, Conflict)
    assert outcome.current is not None
    assert outcome.current.epoch == first.epoch
    second = await admitted(other, proposal(session="s2", now=NOW()), replaces=first.epoch)
    assert second.epoch > first.epoch


async def test_changes_of_others_are_told_and_own_ones_are_not(
    two: tuple[RedisStore, RedisStore],
) -> None:
    one, other = two
    told: list[Change] = []
    other.watch(told.append)
    first = await admitted(one, proposal(now=NOW()), now=NOW())
    await until(lambda: has(other, first.epoch))
    await admitted(other, proposal("bob", now=NOW()), now=NOW())
    second = await admitted(one, moved_to(first, "vir-1"), replaces=first.epoch, now=NOW())
    await until(lambda: has(other, second.epoch))
    await one.note_sessions(second.node, {ANA: replace(second, live=True)}, now=NOW())
    await one.end(*ANA, epoch=None, reason="left", now=NOW())
    await until(lambda: same_seats(one, other))
    nodes = [
        tuple(seat and (seat.node, seat.live) for seat in (change.before, change.after))
        for change in told
    ]
    assert nodes == [
        (None, ("fra-1", False)),
        (("fra-1", False), ("vir-1", False)),
        (("vir-1", False), ("vir-1", True)),
        (("vir-1", True), None),
    ]


async def test_hints_reach_the_other_replica(two: tuple[RedisStore, RedisStore]) -> None:
    one, other = two
    node = a_node("fra-1", "eu-frankfurt", heard_at=NOW())
    link = LinkReport(RoomId("tenant:r"), NodeId("vir-1"), "up", ("t1",))
    await one.put_node(replace(node, replica=one.replica, rtts={RegionId("us-virginia"): 88.5}))
    await one.put_links(node.id, [link], LinkFigures([5], [1], [0]))
    await one.put_drain(node.id, Drain(NOW() + 60, "kernel", 2.0))
    await one.put_topology("a: 1", expect_version=0, now=NOW())
    await one.learn([RttSample("203.0.113.0/24", node.region, 20.0, "ana")], now=NOW())

    async def all_there() -> bool:
        return (
            bool(await other.nodes())
            and bool(await other.links(link.room))
            and bool(await other.drains())
            and await other.topology() is not None
            and bool(await other.learned("203.0.113.0/24", now=NOW()))
        )

    await until(all_there)
    found = (await other.nodes())[node.id]
    assert found.heard_at == pytest.approx(node.heard_at, abs=0.1)
    assert (found.replica, found.rtts) == (one.replica, {RegionId("us-virginia"): 88.5})
    status = LinkStatus(link.room, node.id, link.to_node, "up", ("t1",))
    assert await other.links(link.room) == [status], "counters stay here"
    assert await other.put_topology("b: 1", expect_version=0, now=NOW()) is None
    await one.put_links(node.id, [], NO_FIGURES)
    await one.drop_node(node.id)

    async def all_gone() -> bool:
        return not (await other.nodes() or await other.links(link.room) or await other.drains())

    await until(all_gone)


async def test_while_it_reads_what_it_missed_a_replica_gives_few_places_away(
    two: tuple[RedisStore, RedisStore],
) -> None:
    """The others may have given them away: of that it knows nothing yet, and where the log ends it knows already."""
    one, other = two

    async def knows_the_other() -> bool:
        return len(await one.replicas()) == 2

    await until(knows_the_other)
    await one.put_node(replace(a_node("fra-1", "eu-frankfurt"), capacity=20, replica=other.replica))
    one._shards[0].loaded.clear()
    wanted = [proposal(f"p{index}", now=NOW()) for index in range(5)]
    outcomes = [await admit(one, each, now=NOW()) for each in wanted]
    assert [isinstance(each, Admitted) for each in outcomes] == [True, True, False, False, False]
    one._shards[0].loaded.set()
    one._seats.rejoined(0)
    assert isinstance(await admit(one, wanted[4], now=NOW()), Admitted)


async def test_a_replica_that_starts_knows_everything(
    two: tuple[RedisStore, RedisStore], redis_server: RedisServer
) -> None:
    one, _ = two
    first = await admitted(one, proposal(now=NOW()), now=NOW())
    await admitted(one, proposal("bob", now=NOW()), now=NOW())
    bob = await one.end(RoomId("standup"), ParticipantId("bob"), epoch=None, reason="", now=NOW())
    assert bob is not None
    await one.put_node(a_node("fra-1", "eu-frankfurt"))
    await one.put_topology("a: 1", expect_version=0, now=NOW())
    await one.learn([RttSample("203.0.113.0/24", RegionId("r"), 20.0, "ana")], now=NOW())
    events = await ended_log(one)
    await until(lambda: settled(one))
    async with replica(redis_server) as third:
        found = await third.assignment(*ANA)
        assert found is not None
        assert replace(found, expires_at=0.0) == replace(first, expires_at=0.0)
        assert first.expires_at <= found.expires_at <= first.expires_at + leases.SPARE_S + 0.1
        assert await third.last_epoch(bob.room, bob.participant) == bob.epoch
        assert await third.learned("203.0.113.0/24", now=NOW())
        assert list(await third.nodes()) == ["fra-1"]
        stored = await third.topology()
        assert stored is not None
        assert stored.text == "a: 1"
        assert await take(third.events(after=""), len(events)) == events


async def settled(store: RedisStore) -> bool:
    await asyncio.sleep(0.05)
    return (await store.health()).pending == 0


async def test_replicas_see_each_other_and_have_slots_of_their_own(
    two: tuple[RedisStore, RedisStore],
) -> None:
    one, other = two
    await one.announce("203.0.113.1:7443", now=NOW())
    await other.announce("203.0.113.2:7443", now=NOW())

    async def both_seen() -> bool:
        return len(await one.replicas()) == len(await other.replicas()) == 2

    await until(both_seen)
    found = await other.replicas()
    assert found[one.replica].target == "203.0.113.1:7443"
    assert one._fleet.slot != other._fleet.slot


# --- events ---------------------------------------------------------------------------------------


async def test_a_reader_resumes_at_another_replica(two: tuple[RedisStore, RedisStore]) -> None:
    one, other = two
    for number in range(4):
        await one.append_event("node.ready", {"n": number}, now=NOW())
    (_, second, *_) = await take(one.events(after=""), 4)
    resumed = await take(other.events(after=second.id), 2)
    assert [event.data["n"] for event in resumed] == [2, 3]


async def test_a_reader_that_comes_back_too_late_is_told(
    two: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MAX_EVENTS", 5)
    one, _ = two
    one._log._kept = type(one._log._kept)(maxlen=5)
    await one.append_event("node.ready", {"n": 0}, now=NOW())
    (first,) = await take(one.events(after=""), 1)
    for number in range(1, 9):
        await one.append_event("node.ready", {"n": number}, now=NOW())

    async def seen() -> bool:
        return (await one.totals()).events >= 9

    await until(seen)
    reset, oldest = await take(one.events(after=first.id), 2)
    assert (reset.type, oldest.data["n"]) == ("stream.reset", 4)


# --- without Redis --------------------------------------------------------------------------------


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


async def normal(store: RedisStore) -> bool:
    health = await store.health()
    return health.mode == "normal" and not health.pending and store._shards[0].loaded.is_set()


async def test_joins_go_on_while_redis_is_away_and_come_together_again(
    own_server: RedisServer,
) -> None:
    async with replica(own_server) as one, replica(own_server) as other:
        await one.put_topology("a: 1", expect_version=0, now=NOW())
        stays = await admitted(one, proposal("stays", now=NOW()), now=NOW())
        leaves = await admitted(one, proposal("leaves", now=NOW()), now=NOW())
        moves = await admitted(one, proposal("moves", now=NOW()), now=NOW())
        reported = {(stays.room, stays.participant): replace(stays, live=True)}
        await one.note_sessions(stays.node, reported, now=NOW())
        await until(lambda: same_seats(one, other))
        own_server.kill()
        # Both sides go on, each alone.
        begun = asyncio.get_running_loop().time()
        alone = await admit(one, proposal("new", now=NOW()), now=NOW())
        assert isinstance(alone, Admitted)
        assert (alone.created, alone.degraded) == (True, True)
        both = [
            await admit(store, proposal("twice", now=NOW()), now=NOW()) for store in (one, other)
        ]
        assert await one.end(leaves.room, leaves.participant, epoch=None, reason="left", now=NOW())
        moved = await admitted(other, moved_to(moves, "vir-1"), replaces=moves.epoch, now=NOW())
        again = await admit(other, proposal("stays", now=NOW()), now=NOW())
        assert isinstance(again, Admitted)
        assert (again.created, again.degraded, again.assignment.epoch) == (False, True, stays.epoch)
        assert asyncio.get_running_loop().time() - begun < 1.0
        await one.append_event("node.lost", {"node": "fra-1"}, now=NOW())
        # It comes back without anything.
        own_server.start()
        for store in (one, other):
            await until(lambda one=store: normal(one))  # type: ignore[misc]
        await until(lambda: same_seats(one, other))
        twice = [outcome.assignment.epoch for outcome in both if isinstance(outcome, Admitted)]
        assert len(set(twice)) == 2, "two replicas never give one epoch"
        found = {seat.participant: seat.epoch for seat in one._view}
        assert found == {
            "stays": stays.epoch,
            "moves": moved.epoch,
            "new": alone.assignment.epoch,
            "twice": max(twice),
        }
        live = await other.assignment(stays.room, stays.participant)
        assert live is not None
        assert live.live, "what nodes reported is not forgotten either"
        stored = await other.topology()
        assert stored is not None
        assert stored.text == "a: 1"
        assert "node.lost" in {event.type for event in await ended_log(one)}


async def test_what_operators_change_waits_for_redis(own_server: RedisServer) -> None:
    async with replica(own_server) as one:
        await admitted(one, proposal("stays", now=NOW()), now=NOW())
        own_server.kill()
        for refused in (
            one.put_topology("b: 1", expect_version=0, now=NOW()),
            one.put_drain(NodeId("fra-1"), Drain(NOW(), "")),
            one.put_join_token("t", "d", "", ttl_s=60, now=NOW()),
            one.take_join_token("t", "d", now=NOW()),
        ):
            with pytest.raises(UnavailableError) as caught:
                await refused
            assert caught.value.code == "state-unavailable"
        assert await one.drains() == {}
        alone = await admit(one, proposal("new", now=NOW()), now=NOW())
        assert isinstance(alone, Admitted)
        assert alone.degraded
        health = await one.health()
        assert (health.mode, health.pending) == ("degraded", 1)
        assert "out of reach" in health.why


async def test_a_store_does_not_open_without_redis(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.store.redis.store.OPEN_TIMEOUT_S", 0.3)
    own_server.kill()
    with pytest.raises(UnavailableError, match="Connect call failed") as caught:
        async with replica(own_server):
            pass
    assert caught.value.code == "state-unavailable"


async def test_a_reader_who_was_too_slow_loads_everything_anew(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that were trimmed before they were read are missed, and nothing else is."""
    async with replica(own_server) as one, replica(own_server) as other:
        first = await admitted(one, proposal(now=NOW()), now=NOW())
        await until(lambda: has(other, first.epoch))
        monkeypatch.setattr("controlplane.store.redis.shard.POLL_S", 0.5)
        await asyncio.sleep(0.05)
        for number in range(5):
            await admitted(one, proposal(f"p{number}", now=NOW()), now=NOW())
        own_server.command("XTRIM", "{tw:0}:log", "MAXLEN", "1")
        await until(lambda: same_seats(one, other))
        assert (await take(other.events(after="1-0"), 1))[0].type == "stream.reset"


async def test_a_record_of_a_newer_release_is_left_alone(own_server: RedisServer) -> None:
    async with replica(own_server) as one:
        await admitted(one, proposal(now=NOW()), now=NOW())
        own_server.command("HSET", "{tw:0}:room:later", "eve", "99 99999999999999 2 2 s\n9a9b")
        async with replica(own_server) as other:
            assert [room.id for room in await other.rooms(after=None, limit=9)] == ["standup"]
            assert other._seats.unreadable == 1
    assert b"9a9b" in own_server.command("HGET", "{tw:0}:room:later", "eve")
