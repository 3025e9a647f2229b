"""The composition root of a node: what there is, what it is made of, and in which order it starts and stops."""

import asyncio
import importlib.metadata
import signal
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import uvloop
from aiohttp import web

from relay.api.agent import Agent, Introduction, Parts
from relay.api.http import make_app
from relay.api.metrics import LoopLag, Metrics, Sources
from relay.api.probes import Probes
from relay.api.snapshot import SnapshotFile
from relay.api.state import NodeState
from relay.config import Address, Settings
from relay.core.rooms import Rooms
from relay.engines.embedded.engine import EmbeddedEngine
from relay.transport import borrowed
from relay.transport.logs import configure_logs
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Endpoint
from relay.trunk.peer_rtt import PeerRtts
from relay.trunk.runner import TrunkRunner, host_port

HTTP_GRACE_S = 1.0
"""Requests in flight end in milliseconds; slot streams end with their sessions."""

# Read here: it is a file, and later there is an event loop.
VERSION = importlib.metadata.version("thalweg")

log = structlog.get_logger("relay")


@dataclass(frozen=True, slots=True)
class Where:
    """Where the node really listens, with the ports that the system chose."""

    http_url: str
    media: Address
    trunk_target: str


class Node:
    """Everything that a node process consists of."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rooms = Rooms()
        self.state = NodeState(settings.node, settings.capacity)
        self.engine = EmbeddedEngine(
            self.rooms,
            node=settings.node,
            bind=settings.media.pair,
            advertise=settings.media_advertise.pair,
        )
        self.trunks = TrunkManager(settings.node, self.rooms, advertise=_elsewhere(settings))
        self.trunk_runner = TrunkRunner(
            self.trunks,
            settings.tls,
            udp=settings.trunk_udp.pair,
            grpc_bind=settings.trunk_grpc.pair,
        )
        self.lag = LoopLag()
        probes = Probes(settings.trusted_proxies)
        metrics = Metrics(
            Sources(
                state=self.state,
                engine=self.engine,
                port=self.engine.port,
                probes=probes,
                rooms=self.rooms,
                trunks=self.trunks,
                lag=self.lag,
            )
        )
        self.http = web.AppRunner(
            make_app(self.engine, self.state, probes, metrics.render),
            access_log=None,
            handler_cancellation=True,  # a browser that closes a slot stream ends its handler
            shutdown_timeout=HTTP_GRACE_S,
        )

    async def run(self, *, stop: asyncio.Event, started: Callable[[Where], None]) -> None:
        """Serve until `stop` is set; `started` is told where.

        Raises an ExceptionGroup with an OSError when an address cannot be listened on.
        """
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self.engine.run()),
                tasks.create_task(self.trunk_runner.run()),
                tasks.create_task(self.lag.run()),
            ]
            try:
                await self.engine.ready.wait()
                await self.trunk_runner.ready.wait()
                where = await self._open_http()
                rtts = PeerRtts(self.settings.node, self.engine.port.local_address[0])
                running.append(tasks.create_task(rtts.run()))
                running.append(tasks.create_task(self._agent(where, rtts).run()))
                self.state.serving = True
                log.info("node serves", node=self.settings.node, http=where.http_url)
                started(where)
                await stop.wait()
                log.info("node stops")
            finally:
                self.state.stopping = True
                for task in reversed(running):
                    task.cancel()
                await self.http.cleanup()

    async def _open_http(self) -> Where:
        settings = self.settings
        await self.http.setup()
        await web.TCPSite(self.http, settings.http.host, settings.http.port).start()
        http_port: int = self.http.addresses[0][1]
        http = host_port((settings.http.host, http_port))
        trunk_host = settings.trunk_grpc.host
        if settings.trunk_grpc.is_wildcard:
            trunk_host = self.trunks.endpoint.host
        return Where(
            http_url=settings.public_url or f"http://{http}",
            media=Address(*self.engine.address),
            trunk_target=host_port((trunk_host, self.trunk_runner.grpc_port)),
        )

    def _agent(self, where: Where, rtts: PeerRtts) -> Agent:
        settings = self.settings
        introduction = Introduction(
            node=settings.node,
            region=settings.region,
            http_url=where.http_url,
            media=Endpoint(where.media.host, where.media.port),
            trunk_target=where.trunk_target,
            version=VERSION,
            engine="embedded",
        )
        return Agent(
            introduction,
            Parts(self.state, self.engine, self.trunks, rtts),
            SnapshotFile(settings.state_dir),
            settings.tls,
            settings.control_plane,
        )


def _elsewhere(settings: Settings) -> Endpoint | None:
    """Return where other nodes reach the trunk socket, or None for where it is bound."""
    advertised = settings.trunk_advertise
    return None if advertised == settings.trunk_udp else Endpoint(*advertised.pair)


async def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await Node(settings).run(stop=stop, started=lambda _: None)


def serve(settings: Settings) -> int:
    """Run a node process; return its exit code."""
    configure_logs()
    borrowed.self_test()
    failures: list[str] = []
    try:
        uvloop.run(run(settings))
    except* OSError as group:
        failures = [str(error) for error in leaves(group)]
    for failure in failures:
        log.error("node cannot run", problem=failure)
    return 1 if failures else 0


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the errors inside nested groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
