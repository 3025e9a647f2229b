"""Two replicas of the control plane over Redis, and two real nodes: processes, to be killed and frozen."""

import asyncio
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.adapters import authority as authorities
from controlplane.adapters.ca import write_private
from controlplane.cli.local_setup import free_port

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-the-signalling-server"
REGIONS = ("eu-a", "eu-b")
CAPACITY = 100_000
"""Of each node: what a node takes is not the question here."""
START_WITHIN_S = 20.0
STOP_WITHIN_S = 5.0

TOPOLOGY = """\
version: 1
regions:
  eu-a:
    location: {lat: 50.11, lon: 8.68}
    nodes: {desired: 1, capacity: 100000}
  eu-b:
    location: {lat: 52.37, lon: 4.9}
    nodes: {desired: 1, capacity: 100000}
links:
  - {between: [eu-a, eu-b], rtt_ms: 10}
"""


@dataclass
class Process:
    """A child of this test, and its log."""

    name: str
    command: Sequence[str]
    log: Path
    child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again)."""
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, if it still runs."""
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)

    def stop(self) -> None:
        """End it, in whatever state it is."""
        if self.child is None:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text("utf-8", errors="replace")[-3000:]


@dataclass
class System:
    """The running system."""

    session: aiohttp.ClientSession
    replicas: Mapping[str, Process]
    nodes: Mapping[str, Process]
    urls: Mapping[str, str]
    """Replica → its HTTP API."""

    async def get(self, replica: str, path: str) -> tuple[int, Any]:
        """Ask one replica; (0, why) when it does not answer."""
        try:
            async with self.session.get(
                self.urls[replica] + path,
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=aiohttp.ClientTimeout(total=2),
            ) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, repr(error)

    async def health(self, replica: str) -> str:
        """Return what a replica says of itself: ready, degraded, or why it says nothing."""
        status, answer = await self.get(replica, "/readyz")
        return str(answer.get("status")) if status == 200 else str(answer)

    async def is_ready(self) -> bool:
        """Return whether every replica knows every node."""
        for name in self.urls:
            status, answer = await self.get(name, "/v1/nodes")
            nodes = answer["nodes"] if status == 200 else ()
            if sum(one["state"] == "serving" for one in nodes) < len(REGIONS):
                return False
        return True

    async def seats(self, replica: str) -> dict[tuple[str, str], tuple[str, int]]:
        """Return everybody's node and epoch, as one replica knows them."""
        found: dict[tuple[str, str], tuple[str, int]] = {}
        after = ""
        while True:
            path = "/v1/rooms?limit=200" + (f"&after={after}" if after else "")
            status, page = await self.get(replica, path)
            assert status == 200, page
            for listed in page["rooms"]:
                status, room = await self.get(replica, f"/v1/rooms/{listed['id']}")
                assert status == 200, room
                for one in room["participants"]:
                    key = (room["id"], one["participant"])
                    found[key] = (one["node"], one["epoch"])
            if not page["rooms"] or page.get("next") is None:
                return found
            after = page["next"]


@asynccontextmanager
async def running(folder: Path, redis_url: str) -> AsyncIterator[System]:
    """Run replicas "a" and "b" and a node in each region, on loopback, for the time of the block."""
    replicas, nodes, urls = await asyncio.to_thread(_plan, folder, redis_url)
    everything = [*replicas.values(), *nodes.values()]
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        for process in everything:
            await asyncio.to_thread(process.start)
            stack.push_async_callback(asyncio.to_thread, process.stop)
        system = System(session, replicas, nodes, urls)
        await until(system.is_ready, "both replicas know both nodes", everything)
        yield system


def _plan(
    folder: Path, redis_url: str
) -> tuple[Mapping[str, Process], Mapping[str, Process], Mapping[str, str]]:
    """Return the replicas, the nodes, and where the replicas listen."""
    write_secrets(folder)
    taken: set[int] = set()
    ports = {name: (free_port(taken), free_port(taken)) for name in ("a", "b")}
    targets = [f"127.0.0.1:{grpc}" for _, grpc in ports.values()]
    replicas = {
        name: Process(
            name, serve_command(folder, name, *ports[name], redis_url), folder / f"{name}.log"
        )
        for name in ports
    }
    nodes = {
        f"{region}-1": Process(
            f"{region}-1",
            relay_command(folder, region, targets, [free_port(taken) for _ in range(4)]),
            folder / f"{region}-1.log",
        )
        for region in REGIONS
    }
    urls = {name: f"http://127.0.0.1:{http}" for name, (http, _) in ports.items()}
    return replicas, nodes, urls


async def until(
    true: Callable[[], Any],
    what: str,
    processes: Sequence[Process] = (),
    within_s: float = START_WITHIN_S,
) -> float:
    """Wait until an asynchronous predicate holds; return how long it took. Fails with the ends of the logs."""
    begun = time.monotonic()
    while time.monotonic() - begun < within_s:
        if await true():
            return time.monotonic() - begun
        await asyncio.sleep(0.05)
    logs = "\n".join(f"--- {one.name}\n{one.tail()}" for one in processes)
    raise AssertionError(f"not within {within_s} s: {what}\n{logs}")


def serve_command(
    folder: Path, name: str, http: int, grpc: int, redis_url: str, host: str = "127.0.0.1"
) -> list[str]:
    """Return the command line of a replica."""
    return [
        *(sys.executable, "-m", "controlplane", "serve"),
        *("--topology", str(folder / "topology.yaml")),
        *("--http", f"{host}:{http}", "--grpc", f"{host}:{grpc}"),
        *("--tls-dir", str(folder / "tls" / "controlplane")),
        *("--api-key-file", str(folder / "api-keys")),
        *("--signing-key", str(folder / "signing-key.pem")),
        *("--redis", redis_url, "--replica-id", name),
    ]


def relay_command(
    folder: Path, region: str, targets: Sequence[str], ports: Sequence[int], host: str = "127.0.0.1"
) -> list[str]:
    """Return the command line of a region's node."""
    node = f"{region}-1"
    state = folder / "nodes" / node
    state.mkdir(parents=True)
    flags = zip(("--http", "--media", "--trunk-grpc", "--trunk-udp"), ports, strict=True)
    return [
        *(sys.executable, "-m", "relay", "--node", node, "--region", region),
        *(part for flag, port in flags for part in (flag, f"{host}:{port}")),
        *(part for target in targets for part in ("--control-plane", target)),
        *("--tls-dir", str(folder / "tls" / node), "--state-dir", str(state)),
        *("--capacity", str(CAPACITY)),
    ]


def write_secrets(folder: Path, hosts: Sequence[str] = ("127.0.0.1",)) -> None:
    """Write what all processes need: certificates for these addresses, keys, the topology; and the CA."""
    now = datetime.now(UTC)  # noqa: TID251
    day = timedelta(days=1)
    authority = authorities.create(folder / "ca", now=now)
    names = {"controlplane": "controlplane/ha"}
    names |= {f"{region}-1": f"region/{region}/node/{region}-1" for region in REGIONS}
    for directory, path in names.items():
        authority.issue(
            f"spiffe://thalweg/{path}",
            dns_names=["localhost"],
            ip_addresses=list(hosts),
            now=now,
            lifetime=day,
        ).write(folder / "tls" / directory)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    write_private(folder / "api-keys", f"ha:{digest}\n".encode())
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(folder / "signing-key.pem", pem)
    (folder / "topology.yaml").write_text(TOPOLOGY, "utf-8")
