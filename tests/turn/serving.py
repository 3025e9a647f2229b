"""A TURN server as a node runs it, following orders in a file: `python -m tests.turn.serving FILE`.

The whole node is in tests/e2e; here only what is the TURN server's.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from guard.logs import configure_logs
from relay.turn.model import Listener, Secret, TurnMode, TurnOrders, TurnSettings
from relay.turn.server import TurnServer

LOOK_EVERY_S = 0.1


def orders(said: dict[str, Any]) -> TurnOrders:
    """Return what the file says."""
    return TurnOrders(
        said["realm"],
        tuple(Secret(value, not_after) for value, not_after in said["secrets"]),
        tuple(said["peers"]),
        (Listener("turn.test", said["port"], said["tls_port"]),),
        frozenset(said["transports"]),
    )


def read(path: Path) -> dict[str, Any]:
    """Return what the file says now."""
    said: dict[str, Any] = json.loads(path.read_text())
    return said


async def serve(path: Path) -> None:
    """Do as the file says until SIGTERM."""
    said = read(path)
    server = TurnServer(
        TurnSettings(
            mode=TurnMode.RUN,
            directory=Path(said["dir"]),
            host="",
            listen=tuple(said["listen"]),
            external=(),
            ports=(50_000, 50_999),
            cert=Path(said["cert"]),
            key=Path(said["key"]),
        )
    )

    async def follow() -> None:
        while True:
            server.desired(orders(read(path)))
            await asyncio.sleep(LOOK_EVERY_S)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(follow()), tasks.create_task(server.run())]
        await stop.wait()
        for task in running:
            task.cancel()


if __name__ == "__main__":
    configure_logs()
    asyncio.run(serve(Path(sys.argv[1])))
