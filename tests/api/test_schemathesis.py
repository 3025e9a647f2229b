"""The API against its own description: schemathesis generates good and bad requests, with every check on."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.adapters import authority
from tests.api.fake_relay import relays
from tests.api.harness import KEY, running, settings

CONFIG = Path(__file__).with_name("schemathesis.toml")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")

EXAMPLES = int(os.environ.get("THALWEG_SCHEMATHESIS_EXAMPLES", "30"))
"""Of each operation and phase; set it to 2000 for a deep run of some minutes."""


@pytest.mark.timeout(60 if EXAMPLES <= 30 else 3600)
async def test_the_api_keeps_its_promises(tls_dir: Path, tmp_path: Path) -> None:
    issuer = await asyncio.to_thread(new_issuer, tmp_path / "ca")
    async with (
        running(settings(tls_dir, issuer=issuer)) as api,
        relays(api, "eu-frankfurt", "us-virginia", capacity=10**6),
    ):
        code, said = await run(
            *("--config-file", str(CONFIG), "run", f"{api.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {KEY}"),
            *("--checks", "all", "--max-examples", str(EXAMPLES)),
            folder=tmp_path,
        )
    assert code == 0, said


def new_issuer(folder: Path) -> authority.Issuer:
    authority.create(folder, now=datetime.now(UTC))  # noqa: TID251  the server has the same clock
    return authority.Issuer(folder)


async def run(*arguments: str, folder: Path) -> tuple[int | None, str]:
    """Run schemathesis to its end; return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        str(SCHEMATHESIS),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode()
