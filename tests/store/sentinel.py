"""A master, two of its replicas and three Sentinels on loopback: what fails over when the master goes."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

from tests.conftest import require
from tests.store.servers import RedisServer, ask, free_port

NAME = "thalweg"
SENTINELS = 3
DOWN_AFTER_MS = 1000
READY_WITHIN_S = 15.0

CONF = """\
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {name} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {name} {down}
sentinel failover-timeout {name} 5000
sentinel parallel-syncs {name} 1
"""


class Sentinels:
    """The servers, as a context manager; `servers` are the Redis servers, the first master first."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        self.ports: list[int] = []
        self._folder = Path(tempfile.mkdtemp(prefix="thalweg-sentinel-"))
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """What --redis is given."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one}' for one in self.ports)}/{NAME}"

    @property
    def master(self) -> RedisServer:
        """The server that is the first master, unless it failed over."""
        return self.servers[0]

    @property
    def replicas(self) -> list[RedisServer]:
        """The first master's replicas."""
        return self.servers[1:]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait(5)
        for server in self.servers:
            server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        self.servers.append(RedisServer())
        master = str(self.master.port)
        for _ in range(2):
            self.servers.append(RedisServer("--replicaof", "127.0.0.1", master))
        _until(lambda: self.master.command("INFO", "replication").count(b"state=online") == 2)
        for _ in range(SENTINELS):
            self._sentinel(free_port())
        for port in self.ports:
            _until(partial(_knows_all, port))

    def _sentinel(self, port: int) -> None:
        folder = self._folder / str(port)
        folder.mkdir()
        conf = folder / "sentinel.conf"
        conf.write_text(
            CONF.format(
                port=port, folder=folder, name=NAME, master=self.master.port, down=DOWN_AFTER_MS
            )
        )
        self._processes.append(
            subprocess.Popen(
                [require("redis-server"), str(conf), "--sentinel", "--logfile", "log"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        self.ports.append(port)


def _knows_all(port: int) -> bool:
    """Return whether a Sentinel knows the others and both replicas: before, it fails nothing over."""
    try:
        answer = ask(port, "SENTINEL", "MASTER", NAME).split(b"\r\n")
    except OSError:
        return False
    facts = dict(zip(answer[2::4], answer[4::4], strict=False))
    return facts.get(b"num-other-sentinels") == b"2" and facts.get(b"num-slaves") == b"2"


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not true():
        assert time.monotonic() < deadline, "Redis with Sentinel did not get ready"
        time.sleep(0.05)
