"""A running node and offers to knock at its doors with."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.relay.rtc import RunningNode, running_node


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node() as running:
        yield running


@pytest.fixture
async def http(node: RunningNode) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(node.url) as session:
        yield session
