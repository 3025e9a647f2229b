"""The stores that have to pass the contract. A new one adds its name and how to open it, nothing else."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from controlplane.store.base import Store
from controlplane.store.memory import MemoryStore

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]
"""Opens a store that is empty."""


@asynccontextmanager
async def memory() -> AsyncIterator[Store]:
    yield MemoryStore()


STORES: dict[str, OpenStore] = {"memory": memory}


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    async with STORES[request.param]() as opened:
        yield opened
