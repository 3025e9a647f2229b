"""Prints what one replica knows, as JSON: for tests whose replicas live in another network. URL KEY."""

import asyncio
import json
import sys

import aiohttp

from tests.ha.system import System


async def main(url: str) -> None:
    """Print the state, whether it is normal, and everybody's node and epoch."""
    async with aiohttp.ClientSession() as session:
        system = System(session, {}, {}, {"it": url})
        found = {"health": await system.health("it"), "ready": await system.is_ready(), "seats": []}
        if found["health"] in {"ready", "degraded"}:
            found["seats"] = [[*key, *seat] for key, seat in (await system.seats("it")).items()]
        print(json.dumps(found))  # noqa: T201 - read by who started it


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
