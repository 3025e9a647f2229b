"""Real Redis servers on loopback: without persistence, in a folder that goes with them, ended by process id."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.conftest import require

START_TIMEOUT_S = 10.0


def free_port() -> int:
    """A port that was free a moment ago, with 10,000 above it inside the range (Redis Cluster's bus)."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port + 10_000 < 65_536:
            return port


def ask(port: int, *words: str) -> bytes:
    """Send one command over a connection of its own; return the raw answer."""
    request = f"*{len(words)}\r\n" + "".join(f"${len(one)}\r\n{one}\r\n" for one in words)
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(request.encode())
        return connection.recv(65_536)


class RedisServer:
    """One redis-server."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="thalweg-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it (again), without any data, and wait until it answers."""
        command = [require("redis-server"), *self.arguments()]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "log").read_text() if (self.folder / "log").exists() else ""
                self.close()
                raise RuntimeError(f"redis-server did not start: {log[-500:]}")
            time.sleep(0.01)

    def arguments(self) -> list[str]:
        return [
            "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self.folder), "--logfile", "log", *self.options,
        ]  # fmt: skip

    def command(self, *words: str) -> bytes:
        """Send it one command; return the raw answer."""
        return ask(self.port, *words)

    def answers(self) -> bool:
        try:
            return self.command("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once: what it knew is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(5)
            self._process = None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
