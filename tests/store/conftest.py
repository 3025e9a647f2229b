"""The stores that have to pass the contract. A new one adds its name and how to open it, nothing else."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from controlplane.adapters.clock import SystemClock
from controlplane.store.base import Store
from controlplane.store.memory import MemoryStore
from controlplane.store.redis import commit, connect, shard
from controlplane.store.redis import store as redis_store
from controlplane.store.redis.connect import Connector, Link, connector_of
from controlplane.store.redis.store import RedisStore
from controlplane.store.redis.target import parse_target
from tests.store.cluster import ClusterSetup
from tests.store.servers import RedisServer

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]
"""Opens a store that is empty."""

STORES = ("memory", "fakeredis", "redis", "cluster")


async def _warm_up() -> None:
    """The first connection of fakeredis reads a version from the disk; no test should be the one that waits for it."""
    await FakeAsyncRedis().get("x")


asyncio.run(_warm_up())


class FakeRedis(FakeAsyncRedis):
    """A Redis that is made of Python, and says that it has no replica."""

    async def info(self, *_args: Any, **_options: Any) -> dict[str, Any]:
        return {"role": "master", "connected_slaves": 0}


class FakeConnector:
    """A way to a Redis that is made of Python."""

    partitions = 1

    def __init__(self) -> None:
        self._client = FakeRedis(server=FakeServer())

    async def connect(self, _partition: int) -> Link:
        return Link(self._client, "fake")

    async def close(self) -> None:
        await self._client.aclose()


@asynccontextmanager
async def memory() -> AsyncIterator[Store]:
    yield MemoryStore()


_numbers = itertools.count()


@asynccontextmanager
async def over(connector: Connector) -> AsyncIterator[Store]:
    """A replica over Redis."""
    replica = f"replica-{next(_numbers)}"
    async with RedisStore.opened(connector, replica=replica, now=SystemClock().now) as store:
        yield store


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[ClusterSetup]:
    cluster = ClusterSetup()
    yield cluster
    cluster.close()


@pytest.fixture(params=STORES)
def opener(request: pytest.FixtureRequest) -> OpenStore:
    """How to open an empty store of each kind."""
    if request.param == "memory":
        return memory
    if request.param == "fakeredis":
        return lambda: over(FakeConnector())
    if request.param == "cluster":
        cluster: ClusterSetup = request.getfixturevalue("redis_cluster")

        def opened_cluster() -> AbstractAsyncContextManager[Store]:
            cluster.clear()
            return over(connector_of(parse_target(cluster.url)))

        return opened_cluster
    server: RedisServer = request.getfixturevalue("redis_server")

    def opened() -> AbstractAsyncContextManager[Store]:
        server.command("FLUSHALL")
        return over(connector_of(parse_target(server.url)))

    return opened


@pytest.fixture
async def store(opener: OpenStore) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    async with opener() as opened:
        yield opened


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be slow here; and a machine that is busy with other tests is no Redis that is away."""
    for name in ("PROBE_S", "POLL_S"):
        monkeypatch.setattr(shard, name, 0.002)
    monkeypatch.setattr(redis_store, "EVENTS_RETRY_S", 0.002)
    for module in (commit, connect, shard):
        monkeypatch.setattr(module, "OPERATION_TIMEOUT_S", 10.0)
