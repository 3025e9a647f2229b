"""Hosts of a private network, made of network namespaces: a bridge in one, a host in each other.

Every address is real: nothing is on loopback, so that a TURN server needs none of the exceptions that only tests have.
"""

import os
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tests.conftest import require

ROOT = Path(__file__).parents[2]
STOP_WITHIN_S = 10
PREFIX = {4: 24, 6: 64}


class Host:
    """One namespace with an IPv4 and an IPv6 address."""

    def __init__(self, namespace: str, number: int) -> None:
        self.namespace = namespace
        self.ipv4 = f"10.99.0.{number}"
        self.ipv6 = f"fd99::{number}"

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs a command on this host."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def run(self, *command: str, timeout_s: float = 60) -> str:
        """Run a command to its end; return what it wrote. Raises CalledProcessError."""
        done = subprocess.run(
            self.command(*command),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


class Network:
    """A context manager: hosts by name on one link."""

    def __init__(self, *names: str) -> None:
        self._tag = f"tw{secrets.token_hex(3)}"
        self._names = names
        self._made: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self.hosts: Mapping[str, Host] = {}

    def __enter__(self) -> Self:
        require("ip")
        try:
            self._build()
        except subprocess.CalledProcessError as error:
            self.__exit__()
            reason = f"no network namespaces here: {error.stderr.decode().strip()}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            stop(process)
        for namespace in reversed(self._made):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
        self._made.clear()

    def cut(self, host: str) -> None:
        """Take a host off the network: what it says reaches only itself."""
        self._link(host, "down")

    def join(self, host: str) -> None:
        """Put it back."""
        self._link(host, "up")

    def _link(self, host: str, state: str) -> None:
        # At the far end: its own address and routes stay, and packets vanish without an error.
        port = f"p{self._names.index(host) + 1}"
        _ip("-n", self._made[0], "link", "set", port, state)

    def start(
        self, host: str, *command: str, log: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process on a host; it ends with the network at the latest. Its output goes to a file."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                self.hosts[host].command(*command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )
        self._processes.append(process)
        return process

    def _build(self) -> None:
        middle = self._namespace("net")
        _ip("-n", middle, "link", "add", "br0", "type", "bridge")
        _ip("-n", middle, "link", "set", "br0", "up")
        hosts: dict[str, Host] = {}
        for number, name in enumerate(self._names, 1):
            host = Host(self._namespace(name), number)
            port = f"p{number}"
            _ip("-n", middle, "link", "add", port, "type", "veth",
                "peer", "name", "eth0", "netns", host.namespace)  # fmt: skip
            _ip("-n", middle, "link", "set", port, "master", "br0", "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.ipv4}/{PREFIX[4]}", "dev", "eth0")
            _ip("-n", host.namespace, "addr", "add", f"{host.ipv6}/{PREFIX[6]}", "dev", "eth0", "nodad")  # fmt: skip
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            hosts[name] = host
        self.hosts = hosts

    def _namespace(self, name: str) -> str:
        namespace = f"{self._tag}-{name}"
        _ip("netns", "add", namespace)
        self._made.append(namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        return namespace


def stop(process: subprocess.Popen[Any], number: signal.Signals = signal.SIGTERM) -> None:
    """End a process for good."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_WITHIN_S)


def _ip(*arguments: str) -> None:
    command: Sequence[str] = ["ip", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=10)
