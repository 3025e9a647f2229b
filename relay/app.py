"""The composition root of a node: what there is, what it is made of, and in which order it starts and stops."""

import asyncio
import importlib.metadata
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
import uvloop

from guard.connections import GuardedSite
from guard.logs import configure_logs
from relay.api.agent import Agent, Introduction, Parts
from relay.api.enrolment import EnrolmentError, Renewals, enrol
from relay.api.http import make_app
from relay.api.limits import limited_connections, limited_runner
from relay.api.metrics import LoopLag, Metrics, Sources
from relay.api.probes import Probes
from relay.api.snapshot import SnapshotFile
from relay.api.state import NodeState
from relay.config import Address, Settings
from relay.core.rooms import Rooms
from relay.engines.embedded.engine import EmbeddedEngine
from relay.transport import borrowed
from relay.transport.clock import monotonic
from relay.transport.tls import LiveTls, NodeIdentity
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Endpoint
from relay.trunk.peer_rtt import PeerRtts
from relay.trunk.runner import TrunkRunner, host_port
from relay.turn.server import TurnServer

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
        """`settings` have a certificate (see `enrolled`)."""
        if settings.tls is None:
            raise ValueError("a node without a certificate has to enrol first")
        self.settings = settings
        self.tls = LiveTls(
            settings.tls_dir, NodeIdentity(settings.region, settings.node), settings.tls
        )
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
            self.tls,
            udp=settings.trunk_udp.pair,
            grpc_bind=settings.trunk_grpc.pair,
        )
        self.turn = TurnServer(settings.turn) if settings.turn is not None else None
        self.lag = LoopLag()
        self.connections = limited_connections(settings.trusted_proxies)
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
                connections=self.connections,
                tls=self.tls,
                turn=self.turn,
            )
        )
        app = make_app(self.engine, self.state, probes, metrics.render, self.connections)
        self.http = limited_runner(app, grace_s=HTTP_GRACE_S)

    async def run(self, *, stop: asyncio.Event, started: Callable[[Where], None]) -> None:
        """Serve until `stop` is set; `started` is told where.

        Raises an ExceptionGroup with an OSError when an address cannot be listened on.
        """
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self.engine.run()),
                tasks.create_task(self.trunk_runner.run()),
                tasks.create_task(self.lag.run()),
                tasks.create_task(self.tls.follow()),
            ]
            try:
                await self.engine.ready.wait()
                await self.trunk_runner.ready.wait()
                where = await self._open_http()
                rtts = PeerRtts(self.settings.node, self.engine.port.local_address[0])
                running.append(tasks.create_task(rtts.run()))
                if self.turn is not None:
                    running.append(tasks.create_task(self.turn.run()))
                agent = self._agent(where, rtts)
                running.append(tasks.create_task(agent.run()))
                if self.settings.renews:
                    renewals = Renewals(self.tls, agent.replicas)
                    running.append(tasks.create_task(renewals.run()))
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
        where = settings.http
        await GuardedSite(self.http, where.host, where.port, self.connections).start()
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
            Parts(self.state, self.engine, self.trunks, rtts, self.turn),
            SnapshotFile(settings.state_dir),
            self.tls,
            settings.control_planes,
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
    async with asyncio.TaskGroup() as tasks:
        enrolling = tasks.create_task(enrolled(settings))
        stopped = tasks.create_task(stop.wait())
        await asyncio.wait((enrolling, stopped), return_when=asyncio.FIRST_COMPLETED)
        enrolling.cancel()
        stopped.cancel()
    if not enrolling.cancelled():
        await Node(enrolling.result()).run(stop=stop, started=lambda _: None)


async def enrolled(settings: Settings) -> Settings:
    """Return settings with a certificate; without one the node enrols and keeps what it got.

    Raises EnrolmentError, OSError.
    """
    if settings.tls is not None or settings.enrolment is None:
        return settings
    files = await enrol(settings.enrolment)
    await asyncio.to_thread(files.save, settings.tls_dir)
    return replace(settings, tls=files, enrolment=None)


def serve(settings: Settings) -> int:
    """Run a node process; return its exit code."""
    configure_logs(level=settings.log_level, clock=monotonic)
    borrowed.self_test()
    failures: list[str] = []
    try:
        uvloop.run(run(settings))
    except* (OSError, EnrolmentError) as group:
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
