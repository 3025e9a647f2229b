"""A fleet of model nodes on one control plane process: what it costs, how fast changes arrive, what a failure adds.

`python -m tests.bench scale` runs a quarter of the size, with `--full` all: 1,000 nodes, 100,000 people, 20,000 rooms.
The control plane is the real one with its HTTP API, in a process of its own; the nodes are in a second one, over mTLS.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import structlog
import uvloop

from controlplane.adapters.ca import Bundle, CertificateAuthority
from controlplane.adapters.grpc_wakeups import unblocked_wakeups
from controlplane.app import serve
from tests.api.harness import KEY, settings
from tests.bench.scale_nodes import REGIONS, ModelFleet, Where, live, node_of, region_of

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Size:
    """How much there is, and how long it is looked at."""

    nodes: int
    rooms: int
    quiet_s: float
    probes: int
    connects_per_s: float
    """Nodes: each brings a hundred people of whom the control plane never heard."""
    failure_s: float = 15.0
    capacity: int = 400
    """People that each node takes."""


SMALL = Size(nodes=250, rooms=5_000, quiet_s=10, probes=60, connects_per_s=15)
FULL = Size(nodes=1_000, rooms=20_000, quiet_s=30, probes=100, connects_per_s=8)


def topology() -> str:
    """Return sixteen regions around the world."""
    lines = ["version: 1", "regions:"]
    for index in range(REGIONS):
        lat, lon = -40 + 6 * index, -170 + 21 * index
        lines.append(f"  {region_of(index)}: {{location: {{lat: {lat}, lon: {lon}}}}}")
    return "\n".join([*lines, ""])


def run_plane(pipe: Connection, tls_dir: str) -> None:
    """Run the control plane; a process of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_reader(pipe.fileno(), stop.set)  # nothing comes but its end: the bench is gone
        wanted = settings(Path(tls_dir), topology_text=topology(), declared_rtts=False)
        await serve(wanted, stop=stop, started=lambda ports: pipe.send((ports.http, ports.grpc)))

    uvloop.run(run())


def run_nodes(
    pipe: Connection, bundles: list[Bundle], size: Size, http_port: int, grpc_port: int
) -> None:
    """Run the model nodes; a process of its own."""
    fleet = ModelFleet(bundles, size.rooms, size.capacity)
    where = Where(
        f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{http_port}", KEY, size.connects_per_s
    )
    with unblocked_wakeups():
        grpc.aio.init_grpc_aio()
    uvloop.run(live(pipe, fleet, where))


class Plane:
    """The running control plane, as it is measured."""

    def __init__(self, pid: int, url: str, session: aiohttp.ClientSession) -> None:
        self._pid = pid
        self.url = url
        self._session = session

    def cpu_s(self) -> float:
        """Return the CPU time that the process has used, user and system."""
        fields = Path(f"/proc/{self._pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    async def call(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(method, self.url + path, json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def metric(self, name: str, **labels: str) -> float:
        async with self._session.get(self.url + "/metrics") as answer:
            text = await answer.text()
        wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
        wanted = f"{{{wanted}}}" if wanted else ""
        found = re.search(rf"^{re.escape(name + wanted)} (\S+)$", text, re.MULTILINE)
        assert found, f"no {name}"
        return float(found[1])

    async def until(self, what: Callable[[float], bool], name: str, **labels: str) -> float:
        """Wait until a metric is as wanted; return the seconds that it took."""
        begun = time.monotonic()
        while not what(await self.metric(name, **labels)):
            assert time.monotonic() - begun < 600, f"{name} is {await self.metric(name, **labels)}"
            await asyncio.sleep(0.25)
        return time.monotonic() - begun


@dataclass(frozen=True)
class Load:
    """What a stretch of time cost, per second."""

    cpu: float
    messages: float
    octets: float


class Bench:
    """The phases of one run."""

    def __init__(self, size: Size, plane: Plane, nodes: Connection) -> None:
        self._size, self._plane, self._nodes = size, plane, nodes
        self._asking = asyncio.Lock()

    async def run(self) -> list[str]:
        size, plane = self._size, self._plane
        people = size.rooms * 5
        connected_s = await plane.until(
            lambda one: one >= size.nodes, "thalweg_nodes", state="serving"
        )
        await plane.until(lambda one: one >= people, "thalweg_participants")
        await self._calm()
        cpu, *_ = await self._ask("health")
        quiet = await self._load(size.quiet_s)
        later, lag_ms, _ = await self._ask("health")
        joins = await self._joins()
        drains = await self._drains()
        failed = size.nodes // 10
        seats = await self._people_on(failed)
        await self._ask("kill", failed)
        storm, moved_s = await self._failure(seats)
        ratio = max(storm.messages / quiet.messages, storm.octets / quiet.octets)
        per_report = quiet.cpu / (people / 2) * 1e6
        *_, broken = await self._ask("health")
        return [
            f"{size.nodes} nodes, {people} people in {size.rooms} rooms: up in {connected_s:.0f} s",
            f"in normal time: {quiet.cpu:.0%} of a core (goal 70 % at --full), {per_report:.1f} µs for each report of"
            f" a participant; {quiet.messages:.0f} messages/s, {quiet.octets / 1e6:.2f} MB/s",
            f"the model nodes meanwhile: {(later - cpu) / size.quiet_s:.0%} of a core, {lag_ms:.0f} ms late at p99;"
            f" sessions that broke in the whole run: {broken or 'none'}",
            f"from a join to the snapshots of both nodes that it links: {_spread(joins)} (goal p99 200 ms)",
            f"from a drain to the node's snapshot: {_spread(drains)}",
            f"{failed} nodes with {seats} people fail: {storm.messages:.0f} messages/s, {storm.octets / 1e6:.2f} MB/s,"
            f" {ratio:.2f} of normal (goal 1.2), {storm.cpu:.0%} of a core; all moved after {moved_s:.1f} s",
        ]

    async def _ask(self, *command: object) -> Any:
        async with self._asking:
            self._nodes.send(command)
            return await asyncio.to_thread(self._nodes.recv)

    async def _calm(self) -> None:
        """Wait until all rooms have been planned as a whole: the first nodes of a region are a reason to."""
        before = -1.0
        for _ in range(160):
            looked_at = await self._plane.metric("thalweg_rehoming_rooms_looked_at_total")
            if looked_at == before:
                return
            before = looked_at
            await asyncio.sleep(3)

    async def _load(self, seconds: float) -> Load:
        cpu, begun = self._plane.cpu_s(), time.monotonic()
        messages, octets, _ = await self._ask("traffic")
        await asyncio.sleep(seconds)
        later = await self._ask("traffic")
        took = time.monotonic() - begun
        return Load(
            (self._plane.cpu_s() - cpu) / took,
            (later[0] - messages) / took,
            (later[1] - octets) / took,
        )

    async def _joins(self) -> list[float]:
        """Link two nodes by joins, again and again; return from request to the later of both snapshots, in ms."""
        sent: dict[str, float] = {}
        for probe in range(self._size.probes):
            room = f"probe-{probe}"
            for index, who in enumerate(("ana", "bo")):
                require = {"regions": [region_of(probe + index * 5)]}
                sent[room] = time.monotonic()
                path = f"/v1/rooms/{room}/participants/{who}"
                await self._plane.call("PUT", path, {"session": who, "require": require})
            await asyncio.sleep(0.05)
        await asyncio.sleep(2)
        links, _ = await self._ask("seen")
        arrived: dict[str, list[float]] = {}
        for (room, _), at in links.items():
            arrived.setdefault(room, []).append(at)
        assert all(len(arrived.get(room, ())) == 2 for room in sent), "a snapshot is missing"
        return [(max(arrived[room]) - at) * 1000 for room, at in sent.items()]

    async def _drains(self) -> list[float]:
        sent: dict[str, float] = {}
        for index in range(min(50, self._size.nodes // 5)):
            node = node_of(index)
            sent[node] = time.monotonic()
            await self._plane.call("PUT", f"/v1/nodes/{node}/drain", {"deadline_s": 3600})
            await asyncio.sleep(0.05)
        await asyncio.sleep(2)
        _, seen = await self._ask("seen")
        for node in sent:
            await self._plane.call("DELETE", f"/v1/nodes/{node}/drain")
        await asyncio.sleep(3)
        return [(seen[node] - at) * 1000 for node, at in sent.items()]

    async def _people_on(self, failed: int) -> int:
        nodes = (await self._plane.call("GET", "/v1/nodes"))["nodes"]
        going = {node_of(index) for index in range(self._size.nodes - failed, self._size.nodes)}
        return sum(one["participants"] for one in nodes if one["id"] in going)

    async def _failure(self, seats: int) -> tuple[Load, float]:
        before = (await self._ask("traffic"))[2]
        begun, moved_s = time.monotonic(), float("nan")

        async def watch() -> None:
            nonlocal moved_s
            while time.monotonic() - begun < 60:
                lost = await self._plane.metric("thalweg_nodes", state="lost")
                moved = (await self._ask("traffic"))[2] - before
                if lost and moved >= seats * 0.99:
                    moved_s = time.monotonic() - begun
                    return
                await asyncio.sleep(0.5)

        async with asyncio.TaskGroup() as group:
            load = group.create_task(self._load(self._size.failure_s))
            group.create_task(watch())
        return load.result(), moved_s


def _spread(milliseconds: Sequence[float]) -> str:
    cuts = statistics.quantiles(milliseconds, n=100)
    return f"p50 {statistics.median(milliseconds):.0f} ms, p99 {cuts[98]:.0f} ms"


def certificates(nodes: int) -> tuple[Bundle, list[Bundle]]:
    now = datetime.now(UTC)  # noqa: TID251
    ca = CertificateAuthority.create("bench", now=now, lifetime=timedelta(days=1))

    def issue(path: str) -> Bundle:
        return ca.issue(
            f"spiffe://thalweg/{path}",
            dns_names=["localhost"],
            ip_addresses=["127.0.0.1"],
            now=now,
            lifetime=timedelta(days=1),
        )

    names = [f"region/{region_of(index)}/node/{node_of(index)}" for index in range(nodes)]
    return issue("controlplane/bench"), [issue(name) for name in names]


def report(*, full: bool = False) -> str:
    """Return the figures, a line each."""
    size = FULL if full else SMALL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    processes = multiprocessing.get_context("spawn")
    server, bundles = certificates(size.nodes)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        server.write(Path(folder))
        own, theirs = processes.Pipe()
        plane = processes.Process(target=run_plane, args=(theirs, folder))
        plane.start()
        theirs.close()  # so that the end of either side is seen at the other
        stack.callback(end, plane)
        assert own.poll(30), "the control plane does not start"
        http_port, grpc_port = own.recv()
        commands, theirs = processes.Pipe()
        nodes = processes.Process(
            target=run_nodes, args=(theirs, bundles, size, http_port, grpc_port)
        )
        nodes.start()
        theirs.close()
        stack.callback(end, nodes)
        assert plane.pid is not None
        figures = asyncio.run(_measured(size, plane.pid, f"http://127.0.0.1:{http_port}", commands))
        commands.send(("stop",))
        nodes.join(10)
        return "\n".join(figures)


async def _measured(size: Size, pid: int, url: str, commands: Connection) -> list[str]:
    async with aiohttp.ClientSession(headers=AUTHORIZED) as session:
        return await Bench(size, Plane(pid, url, session), commands).run()


def end(process: Any) -> None:
    if process.is_alive():
        process.terminate()
        process.join(10)
    if process.is_alive():
        process.kill()
