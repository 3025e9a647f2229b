"""Joins over HTTP: how many new ones and repeats one core serves with a local Redis, and how long they take at half.

The control plane is the real one, alone on a core, with 48 and with 192 model nodes in 16 regions over mTLS. Load,
nodes and Redis have the other cores. The peer is an aiohttp server on the same core that only reads requests and
answers as much.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import structlog
import uvloop
from aiohttp import web

from controlplane.app import serve
from controlplane.store.redis.target import Target, parse_target
from tests.api.harness import KEY, settings
from tests.bench.http_load import Answers, drive, put
from tests.bench.scale import AUTHORIZED, Plane, Size, certificates, end, run_nodes, topology
from tests.bench.scale_nodes import REGIONS, region_of
from tests.store.servers import RedisServer

FLEETS = tuple(
    Size(nodes=nodes, rooms=0, quiet_s=0, probes=0, connects_per_s=50, capacity=76_800 // nodes)
    for nodes in (16 * 3, 16 * 12)
)
"""So many people as the joins of the whole bench bring fit into either."""
PER_ROOM = 8
SECONDS = 6.0
SEATS = 40
"""People who are asked for again and again."""
ROUNDS = 3
ANSWER = b"x" * 1200
"""As long as the answer to a join."""


def _place(server: bool) -> None:
    """Give the server a core of its own, and everything else the others, where there are several."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {first} if server or not others else set(others))


def run_plane(pipe: Connection, tls_dir: str, redis: Target) -> None:
    """Run the control plane; a process of its own."""
    _place(server=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)  # the bench is gone
        wanted = settings(Path(tls_dir), topology_text=topology(), declared_rtts=False, redis=redis)
        await serve(wanted, stop=stop, started=lambda ports: pipe.send((ports.http, ports.grpc)))

    uvloop.run(run())


def run_peer(pipe: Connection) -> None:
    """Run a server that decides nothing; a process of its own."""
    _place(server=True)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=ANSWER, content_type="application/json")

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
        app = web.Application()
        app.router.add_put("/v1/rooms/{room}/participants/{participant}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send((runner.addresses[0][1], 0))
        await stop.wait()
        await runner.cleanup()

    uvloop.run(run())


@dataclass(frozen=True)
class Server:
    """A server process, and where it answers."""

    process: Any
    http: int
    grpc: int


@contextlib.contextmanager
def _server(run: Callable[..., None], *arguments: object) -> Iterator[Server]:
    processes = multiprocessing.get_context("spawn")
    pipe, theirs = processes.Pipe()
    process = processes.Process(target=run, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        assert pipe.poll(30), "the server does not start"
        yield Server(process, *pipe.recv())
    finally:
        pipe.close()
        process.join(10)
        end(process)


def _joins(name: str, rng: random.Random) -> Iterator[bytes]:
    """Yield joins of rooms of eight, of whom six are neighbours in the mean, each with probes of three regions."""
    home = 0
    for number in itertools.count():
        if number % PER_ROOM == 0:
            home = rng.randrange(REGIONS)
        near = home if rng.random() < 0.75 else rng.randrange(REGIONS)
        probes = [
            {"region": region_of(near + other), "rtt_ms": [rtt, rtt + 1]}
            for other in range(3)
            for rtt in [round(rng.uniform(5, 40) + 25 * other, 1)]
        ]
        address = f"203.0.{number // 200 % 256}.{1 + number % 200}"
        body = json.dumps({"session": "s", "client_ip": address, "probes": probes})
        yield put(f"/v1/rooms/{name}-{number // PER_ROOM}/participants/p{number}", body, KEY)


def _seats(seed: int) -> list[bytes]:
    """Return joins of the same people for every seed, with other probes."""
    return list(itertools.islice(_joins("seat", random.Random(seed)), SEATS))  # noqa: S311


def _any_of(requests: list[bytes]) -> Iterator[bytes]:
    """Yield them in no order, or what is kept of them would all end at the same time."""
    rng = random.Random(1)  # noqa: S311
    while True:
        yield rng.choice(requests)


@dataclass(frozen=True)
class Kind:
    """Requests that are counted."""

    what: str
    goal: str
    requests: Callable[[], Iterator[bytes]]


_names = itertools.count()
KINDS = (
    Kind("the same requests again", " (goal 8000)", lambda: _any_of(_seats(1))),
    Kind(
        "the same people with other probes",
        "",
        # So many that nobody asks the same again within the seconds in which that is a repeat.
        lambda: _any_of([one for seed in range(2, 502) for one in _seats(seed)]),
    ),
    # Last: nobody comes, so a minute later these people expire, which costs as well.
    Kind("new joins", " (goal 3000)", lambda: _joins(f"r{next(_names)}", random.Random(1))),  # noqa: S311
)


def report() -> str:
    """Return the figures, a line each."""
    return "\n".join(line for fleet in FLEETS for line in _report(fleet))


def _report(size: Size) -> list[str]:
    bundle, bundles = certificates(size.nodes)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        redis = RedisServer()
        stack.callback(redis.close)
        bundle.write(Path(folder))
        plane = stack.enter_context(_server(run_plane, folder, parse_target(redis.url)))
        peer = stack.enter_context(_server(run_peer))
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        _place(server=False)
        nodes, theirs = multiprocessing.get_context("spawn").Pipe()
        fleet = multiprocessing.get_context("spawn").Process(
            target=run_nodes, args=(theirs, bundles, size, plane.http, plane.grpc)
        )
        fleet.start()
        theirs.close()
        stack.callback(end, fleet)
        stack.callback(nodes.send, ("stop",))
        return asyncio.run(_measured(plane, peer, size.nodes))


async def _measured(plane: Server, peer: Server, nodes: int) -> list[str]:
    async with aiohttp.ClientSession(headers=AUTHORIZED) as session:
        watched = Plane(plane.process.pid, f"http://127.0.0.1:{plane.http}", session)
        await watched.until(lambda one: one >= nodes, "thalweg_nodes", state="serving")
        await drive(plane.http, iter(_seats(1)), seconds=SECONDS)
        return [f"{nodes} nodes: {await _line(kind, plane, peer, watched)}" for kind in KINDS]


async def _line(kind: Kind, plane: Server, peer: Server, watched: Plane) -> str:
    """Count as fast as it goes, the peer in turns, and time answers at half of that."""
    ours: list[Answers] = []
    peers: list[Answers] = []
    cpu = 0.0
    for _ in range(ROUNDS):
        before = watched.cpu_s()
        ours.append(await drive(plane.http, kind.requests(), seconds=SECONDS))
        cpu += watched.cpu_s() - before
        peers.append(await drive(peer.http, kind.requests(), seconds=1.0))
    most = statistics.median(one.per_s for one in ours)
    ratio = most / statistics.median(one.per_s for one in peers)
    each = 1e6 * cpu / sum(one.good for one in ours)
    refused = max(one.refused for one in ours)
    # What the rush left behind is done first, and those who are asked for again are asked for once.
    await drive(plane.http, kind.requests(), seconds=SECONDS, rate=most / 2)
    half = await drive(plane.http, kind.requests(), seconds=SECONDS, rate=most / 2)
    return (
        f"{kind.what}: {most:.0f}/s on a core{kind.goal}, {each:.0f} µs of it each, {ratio:.3f} of a server that only"
        f" answers; {refused:.1%} refused; at half of that {half.spread()} (goal p99 25 ms), {half.refused:.1%} refused"
    )
