"""A whole region on a private network: a control plane, an edge with coturn beside it, and participants elsewhere."""

import hashlib
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from controlplane.adapters.ca import CertificateAuthority, write_private
from relay.transport.clock import wall
from tests.conftest import require
from tests.turn.network import ROOT, Network, stop

REGION = "eu-a"
KEY = "key-of-the-tests"
HTTP, GRPC, REDIS = 8080, 8443, 6379
MEDIA, TRUNK_GRPC, TRUNK_UDP, TURN, TURNS = 3479, 8444, 3480, 3478, 443
"""In a namespace of its own every port is free."""
WITHIN_S = 25.0
START_WITHIN_S = 60.0
"""Three processes import what they need, on a machine that may be busy."""
TOPOLOGY = """\
version: 1
regions:
  eu-a:
    location: {{lat: 50, lon: 8}}
    turn: {{servers: [{{host: {host}, port: {port}, tls_port: {tls_port}}}]}}
"""


class Participant:
    """Somebody in a call; what they said last is in `said`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: dict[str, Any] = {}
        self.turn: list[dict[str, Any]] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def frames(self, of: str, kind: str = "video") -> int:
        """Return how many frames of somebody were decoded."""
        count: int = self.said.get("heard", {}).get(of, {}).get(kind, 0)
        return count

    def hears(self, of: str) -> bool:
        """Return whether anything of somebody came, of both kinds."""
        return self.frames(of) > 0 and self.frames(of, "audio") > 0

    def leave(self) -> None:
        """Hang up."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(WITHIN_S) == 0

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "turn" in said:
                self.turn = said["turn"]
            else:
                self.said = said


class System:
    """A context manager: everything runs when it is entered."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.master = secrets.token_hex(32)
        self.secret_file = directory / "turn-secret"
        self.tls = directory / "tls"

    def __enter__(self) -> Self:
        require("turnserver")
        with ExitStack() as stack:
            self.network = stack.enter_context(Network("control", "edge", "ana", "bob"))
            self.hosts = self.network.hosts
            self._prepare()
            self._start_control_plane()
            self.edge = self._start_edge()
            self.eventually(
                lambda: "relay_turn_answering 1.0" in self.edge_metrics(), within_s=START_WITHIN_S
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def api(self) -> str:
        """The control plane's URL, on its own network."""
        return f"http://{self.hosts['control'].ipv4}:{HTTP}"

    def log(self, name: str) -> str:
        """Return what a process wrote."""
        return (self._directory / f"{name}.log").read_text()

    def kill_control_plane_and_redis(self) -> None:
        """Kill -9."""
        for process in (self.redis, self.control_plane):
            process.kill()
            process.wait()

    def edge_metrics(self) -> str:
        """Return the edge's metrics, empty while it does not answer."""
        url = f"http://{self.hosts['edge'].ipv4}:{HTTP}/metrics"
        code = f"import urllib.request as r; print(r.urlopen({url!r}, timeout=2).read().decode())"
        done = subprocess.run(
            self.hosts["edge"].command(sys.executable, "-c", code),
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        return done.stdout

    def call(
        self, host: str, *, transport: str = "udp", name: str = "", room: str = "r"
    ) -> Participant:
        """Let somebody join the room from a host, over TURN only."""
        order = {
            "api": self.api,
            "key": KEY,
            "room": room,
            "participant": name or host,
            "transport": transport,
        }
        log = (self._directory / f"{name or host}.log").open("w")
        self._stack.callback(log.close)
        process = subprocess.Popen(
            self.hosts[host].command(
                "env", f"SSL_CERT_FILE={self.tls / 'turn' / 'ca.pem'}",
                sys.executable, "-m", "tests.turn.call", json.dumps(order),
            ),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT,
        )  # fmt: skip
        self._stack.callback(_end, process)
        return Participant(process)

    def ask(self, host: str, command: str, **order: Any) -> Any:
        """Run a command of tests/turn/client.py on a host; return its answer."""
        given = {"host": self.hosts["edge"].ipv4, "port": TURN} | order
        text = self.hosts[host].run(
            sys.executable, "-m", "tests.turn.client", command, json.dumps(given)
        )
        return json.loads(text.splitlines()[-1])

    def eventually(self, holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        """Wait until something holds."""
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, f"not within {within_s} s\n{self._logs()}"
            time.sleep(0.2)

    def _logs(self) -> str:
        ends = {path.name: path.read_text()[-3000:] for path in self._directory.glob("*.log")}
        return "\n".join(f"--- {name}\n{end}" for name, end in ends.items())

    def _prepare(self) -> None:
        now = datetime.fromtimestamp(wall(), UTC)
        life = timedelta(days=1)
        authority = CertificateAuthority.create("tests", now=now, lifetime=life)
        control, edge = self.hosts["control"].ipv4, self.hosts["edge"].ipv4
        for name, spiffe, address in (
            ("control", "controlplane/tests", control),
            ("edge", f"region/{REGION}/node/edge-1", edge),
            ("turn", "client/turn", edge),
        ):
            authority.issue(
                f"spiffe://thalweg/{spiffe}",
                dns_names=[], ip_addresses=[address], now=now, lifetime=life,
            ).write(self.tls / name)  # fmt: skip
        (self._directory / "topology.yaml").write_text(
            TOPOLOGY.format(host=edge, port=TURN, tls_port=TURNS)
        )
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        write_private(self._directory / "keys", f"tests:{digest}\n".encode())
        write_private(self.secret_file, f"{self.master}\n".encode())

    def _start_control_plane(self) -> None:
        control = self.hosts["control"].ipv4
        self.redis = self.network.start(
            "control", require("redis-server"), "--bind", control, "--port", str(REDIS), "--save", "",
            "--protected-mode", "no", "--dir", str(self._directory), log=self._directory / "redis.log",
        )  # fmt: skip
        self.eventually(lambda: "Ready to accept connections" in self.log("redis"))
        self.control_plane = self.network.start(
            "control", sys.executable, "-m", "controlplane", "serve",
            "--topology", str(self._directory / "topology.yaml"),
            "--http", f"{control}:{HTTP}", "--grpc", f"{control}:{GRPC}",
            "--tls-dir", str(self.tls / "control"), "--api-key-file", str(self._directory / "keys"),
            "--turn-secret-file", str(self.secret_file), "--redis", f"redis://{control}:{REDIS}",
            log=self._directory / "control.log",
        )  # fmt: skip

    def _start_edge(self) -> "subprocess.Popen[bytes]":
        control, edge = self.hosts["control"].ipv4, self.hosts["edge"].ipv4
        return self.network.start(
            "edge", sys.executable, "-m", "relay", "--node", "edge-1", "--region", REGION,
            "--http", f"{edge}:{HTTP}", "--media", f"{edge}:{MEDIA}",
            "--trunk-grpc", f"{edge}:{TRUNK_GRPC}", "--trunk-udp", f"{edge}:{TRUNK_UDP}",
            "--control-plane", f"{control}:{GRPC}", "--tls-dir", str(self.tls / "edge"),
            "--state-dir", str(self._directory / "edge"),
            "--turn", "run", "--turn-listen", edge, "--turn-listen", self.hosts["edge"].ipv6,
            "--turn-cert", str(self.tls / "turn" / "cert.pem"),
            "--turn-key", str(self.tls / "turn" / "key.pem"),
            log=self._directory / "edge.log",
        )  # fmt: skip

    def restart_edge(self) -> None:
        """Restart the node, as after a crash, with whatever it kept on disk."""
        stop(self.edge)
        self.edge = self._start_edge()


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.kill()
    process.wait(10)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
