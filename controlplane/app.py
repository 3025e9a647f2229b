"""The composition root: what there is, what it is made of, and in which order it starts and stops."""

import asyncio
import functools
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import structlog

from controlplane.adapters.clock import SystemClock
from controlplane.adapters.garbage import collect_garbage
from controlplane.adapters.geoip import GeoIp
from controlplane.adapters.tls_files import TlsFiles
from controlplane.adapters.topology_yaml import parse_topology
from controlplane.api.audit import Audit
from controlplane.api.certificates import Certificates, Followed, Gauges
from controlplane.api.context import ApiContext
from controlplane.api.enrollment_grpc import EnrollmentCertificate, EnrollmentServer
from controlplane.api.grpc_server import GrpcServer
from controlplane.api.http.operation import docs_page
from controlplane.api.http.server import http_app
from controlplane.api.limits import limited_connections, limited_runner
from controlplane.api.metrics import Metrics
from controlplane.api.node_sessions import NodeSessions
from controlplane.api.overload import Overload
from controlplane.api.repeats import Repeats
from controlplane.config import Address, Settings
from controlplane.services.cascade import Cascades
from controlplane.services.changed_rooms import ChangedRooms
from controlplane.services.duties import Duties
from controlplane.services.enrolment import Enrolment
from controlplane.services.explaining import Explaining
from controlplane.services.fleet import Fleet
from controlplane.services.following import Following
from controlplane.services.joins import Joins
from controlplane.services.judging import Judge
from controlplane.services.moving import Mover
from controlplane.services.node_states import NodeStates
from controlplane.services.placements import Placements
from controlplane.services.planning import Planning
from controlplane.services.ports import Clock
from controlplane.services.presence import Presence
from controlplane.services.rehoming import Rehoming, RehomingCounters
from controlplane.services.rooms import Rooms
from controlplane.services.session_rtts import SessionRtts
from controlplane.services.snapshots import Snapshots
from controlplane.services.topologies import Topologies
from controlplane.services.tracking import Tracking
from controlplane.services.turn_servers import TurnServers
from controlplane.services.world import MeshRtts, Worlds
from controlplane.store.base import Store
from controlplane.store.memory import MemoryStore
from guard.connections import GuardedSite

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
    enroll: int | None = None
    """None without --enroll."""


def build(
    settings: Settings, store: Store, geo: GeoIp, clock: Clock, sessions: NodeSessions
) -> tuple[ApiContext, Sequence[Sweep], Following]:
    """Return all services on a store, plugged together, the sweeps, and what follows other replicas."""
    parser = functools.lru_cache(maxsize=4)(parse_topology)
    topologies = Topologies(store, parser, clock)
    mesh = MeshRtts(declared_only=settings.declared_rtts)
    placements = Placements()
    worlds = Worlds(store, topologies, mesh, placements)
    duties = Duties(store)
    cascades = Cascades(store, worlds, sessions, duties, clock)
    metrics = Metrics()
    changed = ChangedRooms(metrics.rooms_dropped, duties.is_mine)
    joins = Joins(
        store=store,
        worlds=worlds,
        cascades=cascades,
        placements=placements,
        changed=changed,
        clock=clock,
        geo=geo,
        signer=settings.signer,
        turn=settings.turn,
    )
    presence = Presence(store, cascades, placements, changed)
    session_rtts = SessionRtts(store, declared_only=settings.declared_rtts)
    mover = Mover(store, worlds, cascades, placements, changed, clock)
    snapshots = Snapshots(
        store,
        cascades,
        settings.signer,
        duties,
        TurnServers(topologies, settings.turn) if settings.turn is not None else None,
    )
    tracking = Tracking()
    states = NodeStates(store, tracking, clock)
    fleet = Fleet(
        store=store,
        topologies=topologies,
        placements=placements,
        presence=presence,
        session_rtts=session_rtts,
        mover=mover,
        snapshots=snapshots,
        tracking=tracking,
        states=states,
        duties=duties,
        notifier=sessions,
        clock=clock,
    )
    judge = Judge(
        store=store,
        topologies=topologies,
        cascades=cascades,
        presence=presence,
        session_rtts=session_rtts,
        mover=mover,
        snapshots=snapshots,
        tracking=tracking,
        states=states,
        duties=duties,
        frozen=metrics.fleet_frozen,
        clock=clock,
    )
    following = Following(
        store=store,
        duties=duties,
        cascades=cascades,
        placements=placements,
        changed=changed,
        clock=clock,
    )
    rehoming = Rehoming(
        store=store,
        worlds=worlds,
        cascades=cascades,
        placements=placements,
        changed=changed,
        counters=RehomingCounters(metrics.rooms_looked_at, metrics.rehomes),
        duties=duties,
        is_frozen=lambda: judge.frozen_why is not None,
        clock=clock,
    )
    context = ApiContext(
        joins=joins,
        rooms=Rooms(store, worlds, clock),
        fleet=fleet,
        topologies=topologies,
        planning=Planning(store, topologies, worlds, parser, clock),
        explaining=Explaining(store, topologies, joins),
        enrolment=Enrolment(store, topologies, clock, settings.issuer),
        store=store,
        callers=settings.callers,
        audit=Audit(store, clock),
        clock=clock,
        metrics=metrics,
        overload=Overload(metrics.registry, dice=random.random, tenant_rate=settings.tenant_rate),
        repeats=Repeats(),
        parse_topology=parser,
        trusted_proxies=settings.trusted_proxies,
        open_metrics=settings.open_metrics,
    )
    return context, (judge.sweep, cascades.sweep, rehoming.sweep), following


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
        store = await _open_store(stack, settings, clock)
        sessions = NodeSessions()
        context, sweeps, following = build(settings, store, geo, clock, sessions)
        await asyncio.to_thread(context.parse_topology, settings.topology_text)
        await context.topologies.load(settings.topology_text)
        tls = await asyncio.to_thread(TlsFiles, settings.tls_dir)
        grpc_port = await _start_grpc(stack, context, sessions, settings.grpc, tls)
        enroll_port = await _start_enrollment(stack, context, settings, tls)
        http_port = await _start_http(stack, context, settings.http)
        http, grpc = replace(settings.http, port=http_port), replace(settings.grpc, port=grpc_port)
        advertised = settings.grpc_advertise or grpc
        if not advertised.is_wildcard:
            await context.store.announce(str(advertised), now=clock.now())
        log.info("ready", http=str(http), grpc=str(grpc))
        async with asyncio.TaskGroup() as group:
            # Each by itself: planning rooms must not make the fleet's silence look like sleep.
            sweepers = [group.create_task(_forever(sweep)) for sweep in sweeps]
            sweepers.append(group.create_task(following.run()))
            sweepers.append(group.create_task(collect_garbage()))
            sweepers.append(group.create_task(context.overload.run()))
            broken = context.metrics.broken_files
            sweepers.append(
                group.create_task(
                    context.callers.follow(
                        lambda flag, is_broken: broken.labels(flag).set(is_broken)
                    )
                )
            )
            sweepers.append(group.create_task(_certificates(context, settings, tls).follow()))
            started(Ports(http_port, grpc_port, enroll_port))
            await stop.wait()
            for sweeper in sweepers:
                sweeper.cancel()
        log.info("stopping")


async def _open_store(stack: AsyncExitStack, settings: Settings, clock: Clock) -> Store:
    """Return the store. Raises UnavailableError ("state-unavailable") when Redis is out of reach."""
    if settings.redis is None:
        return MemoryStore(first=int(clock.now() * 1000))
    # Who runs without Redis does not load its client.
    from controlplane.store.redis.connect import connector_of  # noqa: PLC0415
    from controlplane.store.redis.store import RedisStore  # noqa: PLC0415

    return await stack.enter_async_context(
        RedisStore.opened(connector_of(settings.redis), replica=settings.replica_id, now=clock.now)
    )


async def _start_grpc(
    stack: AsyncExitStack,
    context: ApiContext,
    sessions: NodeSessions,
    address: Address,
    tls: TlsFiles,
) -> int:
    server = GrpcServer(context, sessions, tls.server_credentials())
    stack.push_async_callback(server.stop)
    return await server.start(str(address))


async def _start_enrollment(
    stack: AsyncExitStack, context: ApiContext, settings: Settings, tls: TlsFiles
) -> int | None:
    if settings.enroll is None or settings.issuer is None:
        return None
    credentials = EnrollmentCertificate(settings.issuer, tls).credentials()
    server = EnrollmentServer(context, credentials)
    stack.push_async_callback(server.stop)
    return await server.start(str(settings.enroll))


def _certificates(context: ApiContext, settings: Settings, tls: TlsFiles) -> Certificates:
    """Return what follows certificates and keys."""
    others: list[tuple[str, Followed]] = [("signing-key", settings.signer)]
    if settings.issuer is not None:
        others.append(("ca-dir", settings.issuer.file))
    if settings.turn is not None:
        others.append(("turn-secret-file", settings.turn))
    metrics = context.metrics
    gauges = Gauges(
        broken=lambda flag, is_broken: metrics.broken_files.labels(flag).set(is_broken),
        certificate_expires_s=metrics.certificate_expires.set,
    )
    return Certificates(tls, others, gauges, context.clock)


async def _start_http(stack: AsyncExitStack, context: ApiContext, address: Address) -> int:
    connections = limited_connections(context.trusted_proxies)
    context.metrics.watch_connections(connections)
    app = http_app(context, await asyncio.to_thread(docs_page), connections)
    runner = limited_runner(app, grace_s=HTTP_GRACE_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await GuardedSite(runner, address.host, address.port, connections).start()
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
    if settings.redis is None:
        log.warning("STATE IS IN MEMORY: it ends with this process, and no second one shares it")
    if settings.turn is None:
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
    if not settings.signer.is_lasting:
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
