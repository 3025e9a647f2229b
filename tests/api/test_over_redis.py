"""Two control planes over one Redis: what one answers, the other knows."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from controlplane.store.redis.target import parse_target
from tests.api.fake_relay import relays
from tests.api.harness import Api, running, settings
from tests.fakes.waiting import eventually
from tests.store.servers import RedisServer


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
async def two(tls_dir: Path, redis_server: RedisServer) -> AsyncIterator[tuple[Api, Api]]:
    redis_server.command("FLUSHALL")
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(
                running(settings(tls_dir, redis=parse_target(redis_server.url), replica_id=id_))
            )
            for id_ in ("one", "two")
        ]
        yield first, second


async def test_what_one_replica_answers_the_other_knows(two: tuple[Api, Api]) -> None:
    one, other = two
    async with relays(one, "eu-frankfurt"):
        first = (await one.join("r", "ana")).json
        again = await other.join("r", "ana")
        assert again.status == 200, "the same session, at the replica that does not hear the node"
        assert (again.json["epoch"], again.json["node"]) == (first["epoch"], first["node"])
        bob = (await other.join("r", "bob")).json
        assert bob["node"]["id"] == first["node"]["id"]

        async def both_seen() -> str | None:
            people = (await one.call("GET", "/v1/rooms/r")).json["participants"]
            return None if len(people) == 2 else f"{len(people)} people"

        await eventually(both_seen)
        assert (await one.call("DELETE", "/v1/rooms/r/participants/bob")).status == 204
        assert (await one.call("GET", "/metrics")).text.count("thalweg_participants 1.0") == 1


async def test_joins_are_answered_while_redis_is_frozen(
    two: tuple[Api, Api], redis_server: RedisServer
) -> None:
    one, _ = two
    async with relays(one, "eu-frankfurt"):
        before = (await one.join("r", "ana")).json
        redis_server.freeze()
        try:
            again = await one.join("r", "ana")
            assert (again.status, again.json["epoch"]) == (200, before["epoch"])
            assert (await one.join("r", "bob")).status == 201
            refused = await one.call("DELETE", "/v1/nodes/eu-frankfurt-1/drain")
            assert refused.status in {200, 503}
        finally:
            redis_server.thaw()
