"""A control plane for commands to talk to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.harness import SERVER, Api, running, settings


@pytest.fixture(scope="session")
def tls_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    SERVER.write(folder)
    return folder


@pytest.fixture
async def api(tls_dir: Path) -> AsyncIterator[Api]:
    async with running(settings(tls_dir)) as found:
        yield found
