"""A region on a private network: a TURN server, an SFU that it may relay to, a host that it may not, a client."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from controlplane.adapters.ca import CertificateAuthority
from controlplane.core.turn import DEFAULT_TTL_S, turn_credential
from relay.transport.clock import wall
from tests.conftest import require
from tests.turn.network import ROOT, Network, stop

REALM = "eu-a"
NAME = "turn.test"
PORT, TLS_PORT = 3478, 443
"""The ports of the real thing: in a namespace of its own every port is free."""
WITHIN_S = 15
SECRET = "a" * 64
OTHER_SECRET = "b" * 64


class Held:
    """An allocation that another host holds, with an echo through it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert self._line() == "ok"

    def ping(self) -> dict[str, Any]:
        """Refresh, bind a channel, send five datagrams; return what became of each."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        said: dict[str, Any] = self._line()
        return said

    def end(self) -> None:
        self._process.communicate(timeout=WITHIN_S)

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the client ended"
        return json.loads(line)


class Lab:
    """A context manager; `orders` may be changed, then `publish` them."""

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        self._directory = directory
        self.orders: dict[str, Any] = {}
        self.server: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        require("turnserver")
        with ExitStack() as stack:
            self.network = stack.enter_context(Network("turn", "client", "sfu", "other"))
            self.hosts = self.network.hosts
            self.renew_certificate()
            turn, sfu = self.hosts["turn"], self.hosts["sfu"]
            self.orders = {
                "dir": str(self._directory / "turn"),
                "listen": [turn.ipv4, turn.ipv6],
                "cert": str(self._directory / "tls" / "cert.pem"),
                "key": str(self._directory / "tls" / "key.pem"),
                "realm": REALM,
                "secrets": [[SECRET, wall() + 3600]],
                "peers": [sfu.ipv4, sfu.ipv6],
                "port": PORT,
                "tls_port": TLS_PORT,
                "transports": ["udp", "tcp", "tls"],
            }
            self.publish()
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def log(self) -> str:
        """What the server wrote."""
        return (self._directory / "server.log").read_text()

    def start(self) -> None:
        """Start the server's node, and wait until the server answers."""
        path = str(self._directory / "orders.json")
        self.server = self.network.start(
            "turn", sys.executable, "-m", "tests.turn.serving", path,
            log=self._directory / "server.log",
        )  # fmt: skip
        self.eventually(lambda: self.allocate() == ["ok"])

    def stop(self) -> None:
        """End it as an operator does."""
        stop(self.server)

    def publish(self) -> None:
        """Put `orders` in force, as a snapshot would."""
        fresh = self._directory / "orders.new"
        fresh.write_text(json.dumps(self.orders))
        fresh.replace(self._directory / "orders.json")

    def credential(
        self, secret: str = SECRET, *, ttl_s: float = 600, user: str = ""
    ) -> dict[str, str]:
        """Return a credential as the control plane makes it; of a user of its own, since quotas count by user."""
        # With a negative time it has ended already: the control plane would make no such thing.
        signed_at = wall() + ttl_s - DEFAULT_TTL_S
        made = turn_credential(secret, user or f"u_{secrets.token_hex(6)}", now=signed_at)
        return {"username": made.username, "credential": made.credential}

    def ask(self, command: str, **order: Any) -> Any:
        """Run a command of tests/turn/client.py on the client; return its answer."""
        given = {"host": self.hosts["turn"].ipv4, "port": PORT, "name": NAME} | order
        given = self.credential() | given if "username" not in given else given
        text = self.hosts["client"].run(
            sys.executable, "-m", "tests.turn.client", command, json.dumps(given)
        )
        return json.loads(text.splitlines()[-1])

    def allocate(self, **order: Any) -> list[str]:
        """Open and close allocations; return what became of each."""
        answers: list[str] = self.ask(
            "allocate", ca=str(self._directory / "tls" / "ca.pem"), **order
        )
        return answers

    def peers(self, peers: Sequence[str]) -> dict[str, list[str]]:
        """Ask for a permission and a channel to each."""
        answers: dict[str, list[str]] = self.ask("peers", peers=list(peers))
        return answers

    def hold(self, *, peer_host: str = "sfu", **order: Any) -> Held:
        """Begin to echo on a peer, and hold an allocation through which a client hears it."""
        peer = self.hosts[peer_host]
        listening = self._piped(peer_host, "echo", {"host": peer.ipv4, "port": 0})
        assert listening.stdout is not None
        port = json.loads(listening.stdout.readline())
        given = {"host": self.hosts["turn"].ipv4, "port": PORT, "peer": [peer.ipv4, port]}
        return Held(self._piped("client", "hold", self.credential() | given | order))

    def eventually(self, holds: Callable[[], bool], within_s: float = WITHIN_S) -> float:
        """Wait until something holds; return how many seconds it took."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < within_s, f"not within {within_s} s\n{self.log}"
            time.sleep(0.1)
        return time.monotonic() - began

    def _piped(self, host: str, command: str, order: dict[str, Any]) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            self.hosts[host].command(
                sys.executable, "-m", "tests.turn.client", command, json.dumps(order)
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._stack.callback(_end, process)
        return process

    def renew_certificate(self) -> None:
        """Give the TLS listener another certificate."""
        now = datetime.fromtimestamp(wall(), UTC)
        authority = CertificateAuthority.create("tests", now=now, lifetime=timedelta(days=1))
        bundle = authority.issue(
            "spiffe://thalweg/client/turn",
            dns_names=[NAME],
            ip_addresses=[],
            now=now,
            lifetime=timedelta(days=1),
        )
        bundle.write(self._directory / "tls")


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=WITHIN_S)
