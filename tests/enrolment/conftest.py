"""A control plane with an authority of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.harness import SERVER, Api, running, settings
from tests.enrolment.system import Issuing, issuing


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Issuing]:
    async with issuing(tmp_path) as running:
        yield running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A control plane without an authority."""
    await asyncio.to_thread(SERVER.write, tmp_path)
    async with running(settings(tmp_path)) as found:
        yield found
