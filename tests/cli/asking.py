"""Runs `thalweg` as a process while a control plane runs in the test's own event loop."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from tests.api.harness import KEY, Api

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("THALWEG_") and name != "FORCE_COLOR"
}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def thalweg(api: Api | None, *arguments: str, key: str | None = KEY) -> Done:
    """Run a command to its end."""
    environment = dict(ENVIRONMENT)
    if api is not None:
        environment["THALWEG_URL"] = api.url
    if key is not None:
        environment["THALWEG_API_KEY"] = key
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controlplane", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())
