"""What docs/operations.md says about keys and tenants, run as it is written."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from controlplane.api import callers
from controlplane.api.callers import Callers, jwks_file, key_file
from tests.api.harness import Api, running, settings
from tests.fakes.waiting import eventually

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
SECTION = TEXT.partition("\n## Keys and tenants\n")[2].partition("\n## ")[0]
MAKE, ROTATE = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
[SIGN] = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


async def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    assert process.returncode == 0, command
    return said.decode()


async def status(api: Api, path: str, key: str) -> int:
    return (await api.call("GET", path, key=key)).status


async def test_keys_and_tenants_as_written(
    tls_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "POLL_S", 0.1)
    listed = await run(tmp_path, "bash", "-ec", MAKE)
    assert re.search(r"^ops +default +read,admin", listed, re.MULTILINE)
    assert re.search(r"^acme +acme +join,read", listed, re.MULTILINE)
    token = (await run(tmp_path, sys.executable, "-c", SIGN)).strip()
    known = Callers(
        await asyncio.to_thread(key_file, tmp_path / "api-keys"),
        await asyncio.to_thread(jwks_file, tmp_path / "jwks.json"),
    )

    def key(name: str) -> str:
        return (tmp_path / f"{name}.key").read_text().strip()

    ops, acme = await asyncio.to_thread(key, "ops"), await asyncio.to_thread(key, "acme")
    async with running(settings(tls_dir, callers=known)) as api:
        for path, by, wanted in (
            ("/v1/nodes", ops, 200),
            ("/v1/rooms/acme:standup", ops, 200),
            ("/v1/nodes", acme, 403),
            ("/v1/rooms/standup", acme, 200),
            ("/v1/rooms/acme:standup", acme, 404),
            ("/v1/rooms/standup", token, 200),
            ("/v1/nodes", token, 403),
        ):
            assert await status(api, path, by) == wanted, path
        await run(tmp_path, "bash", "-ec", ROTATE)
        successor = await asyncio.to_thread(key, "acme-2")

        async def is_rotated() -> str | None:
            found = [await status(api, "/v1/rooms", by) for by in (acme, successor)]
            return None if found == [401, 200] else str(found)

        await eventually(is_rotated)
