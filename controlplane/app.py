"""The composition root: what there is, what it is made of, and in which order it starts and stops."""

import asyncio
import functools
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import structlog
from aiohttp import web

from controlplane.adapters.clock import SystemClock
from controlplane.adapters.geoip import GeoIp
from controlplane.adapters.topology_yaml import parse_topology
from controlplane.api.context import ApiContext
from controlplane.api.grpc_server import GrpcServer, server_credentials
from controlplane.api.http.operation import docs_page
from controlplane.api.http.server import http_app
from controlplane.api.metrics import Metrics
from controlplane.api.nodes_grpc import NodeSessions
from controlplane.config import Address, Settings
from controlplane.services.cascade import Cascades
from controlplane.services.changed_rooms import ChangedRooms
from controlplane.services.explaining import Explaining
from controlplane.services.fleet import Fleet
from controlplane.services.joins import Joins
from controlplane.services.moving import Mover
from controlplane.services.placements import Placements
from controlplane.services.planning import Planning
from controlplane.services.ports import Clock
from controlplane.services.presence import Presence
from controlplane.services.rehoming import Rehoming, RehomingCounters
from controlplane.services.rooms import Rooms
from controlplane.services.session_rtts import SessionRtts
from controlplane.services.snapshots import Snapshots
from controlplane.services.topologies import Topologies
from controlplane.services.world import MeshRtts, Worlds
from controlplane.store.memory import MemoryStore

SWEEP_INTERVAL_S = 0.25
"""How late a lost node is noticed at worst, beside the seconds that liveness itself takes."""

Sweep = Callable[[], Awaitable[None]]
"""Does what time demands."""

HTTP_GRACE_S = 1.0
"""Requests in flight end in milliseconds, event streams are told to."""

GEOIP_OLD_DAYS = 90
"""Address blocks change hands: a database that is a season old places whole providers wrongly."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers really listen."""

    http: int
    grpc: int


def build(
    settings: Settings, geo: GeoIp, clock: Clock, sessions: NodeSessions
) -> tuple[ApiContext, Sequence[Sweep]]:
    """Return all services on a fresh store, plugged together, and the sweeps."""
    store = MemoryStore(first=int(clock.now() * 1000))
    parser = functools.lru_cache(maxsize=4)(parse_topology)
    topologies = Topologies(store, parser, clock)
    mesh = MeshRtts(declared_only=settings.declared_rtts)
    placements = Placements()
    worlds = Worlds(store, topologies, mesh, placements)
    cascades = Cascades(store, worlds, sessions, clock)
    metrics = Metrics()
    changed = ChangedRooms(metrics.rooms_dropped)
    joins = Joins(
        store=store,
        worlds=worlds,
        cascades=cascades,
        placements=placements,
        changed=changed,
        clock=clock,
        geo=geo,
        signer=settings.signer,
        turn_secret=settings.turn_secret,
    )
    fleet = Fleet(
        store=store,
        topologies=topologies,
        mesh=mesh,
        placements=placements,
        presence=Presence(store, cascades, placements, changed),
        session_rtts=SessionRtts(store, declared_only=settings.declared_rtts),
        mover=Mover(store, worlds, cascades, placements, changed, clock),
        snapshots=Snapshots(store, cascades, settings.signer),
        notifier=sessions,
        clock=clock,
    )
    rehoming = Rehoming(
        store=store,
        worlds=worlds,
        cascades=cascades,
        placements=placements,
        changed=changed,
        counters=RehomingCounters(metrics.rooms_looked_at, metrics.rehomes),
        clock=clock,
    )
    context = ApiContext(
        joins=joins,
        rooms=Rooms(store, worlds, clock),
        fleet=fleet,
        topologies=topologies,
        planning=Planning(store, topologies, worlds, parser, clock),
        explaining=Explaining(store, topologies, joins),
        store=store,
        keys=settings.keys,
        metrics=metrics,
        parse_topology=parser,
        trusted_proxies=settings.trusted_proxies,
        open_metrics=settings.open_metrics,
    )
    return context, (fleet.sweep, cascades.sweep, rehoming.sweep)


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    started: Callable[[Ports], None],
    clock: Clock | None = None,
) -> None:
    """Run a control plane until `stop` is set; `started` is told where it listens.

    Raises OSError when an address cannot be listened on, InvalidInputError for a GeoIP file that broke.
    """
    clock = clock or SystemClock()
    warn_of_shortcuts(settings)
    async with AsyncExitStack() as stack:
        geo = await asyncio.to_thread(GeoIp.open, settings.geoip)
        stack.callback(geo.close)
        warn_of_age(geo, clock.now())
        sessions = NodeSessions()
        context, sweeps = build(settings, geo, clock, sessions)
        await asyncio.to_thread(context.parse_topology, settings.topology_text)
        await context.topologies.load(settings.topology_text)
        grpc_port = await _start_grpc(stack, context, sessions, settings)
        http_port = await _start_http(stack, context, settings.http)
        http, grpc = replace(settings.http, port=http_port), replace(settings.grpc, port=grpc_port)
        log.info("ready", http=str(http), grpc=str(grpc))
        async with asyncio.TaskGroup() as group:
            # Each by itself: planning rooms must not make the fleet's silence look like sleep.
            sweepers = [group.create_task(_forever(sweep)) for sweep in sweeps]
            started(Ports(http_port, grpc_port))
            await stop.wait()
            for sweeper in sweepers:
                sweeper.cancel()
        log.info("stopping")


async def _start_grpc(
    stack: AsyncExitStack, context: ApiContext, sessions: NodeSessions, settings: Settings
) -> int:
    credentials = await asyncio.to_thread(server_credentials, settings.tls_dir)
    server = GrpcServer(context, sessions, credentials)
    stack.push_async_callback(server.stop)
    return await server.start(str(settings.grpc))


async def _start_http(stack: AsyncExitStack, context: ApiContext, address: Address) -> int:
    app = http_app(context, await asyncio.to_thread(docs_page))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=HTTP_GRACE_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, address.host, address.port).start()
    port: int = runner.addresses[0][1]
    return port


async def _forever(sweep: Sweep) -> None:
    while True:
        await asyncio.sleep(SWEEP_INTERVAL_S)
        await sweep()


async def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop=stop, started=lambda _ports: None)


def warn_of_shortcuts(settings: Settings) -> None:
    """Say loudly what a production set-up would have."""
    log.warning("STATE IS IN MEMORY: it ends with this process, and no second one shares it")
    if settings.turn_secret is None:
        log.warning(
            "NO TURN SECRET: clients behind strict firewalls will fail; production gives --turn-secret-file"
        )
    if not settings.geoip:
        log.warning(
            "NO GEOIP FILE: without probes every region looks equally near; production gives --geoip"
        )
    if settings.declared_rtts:
        log.warning(
            "DECLARED RTTS: placement trusts the topology's round trips and measures none; for demos only"
        )
    if not settings.signer_is_lasting:
        log.warning(
            "NO SIGNING KEY: a fresh one is in use and a restart ends its tokens; production gives --signing-key"
        )


def warn_of_age(geo: GeoIp, now: float) -> None:
    """Say how old a GeoIP file is when it is too old to trust."""
    for path, built_at in geo.built.items():
        days = int((now - built_at) // 86_400)
        if days > GEOIP_OLD_DAYS:
            log.warning(
                "OLD GEOIP FILE: addresses have moved since it was made",
                file=str(path),
                age_days=days,
            )
