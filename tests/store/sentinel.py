"""A master, two replicas and three Sentinels on loopback."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tests.store.servers import RedisServer, free_port

NAME = "thalweg"
READY_TIMEOUT_S = 30.0

AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""A master waits 5 s for further replicas before it sends itself to the first; here all are there."""


class SentinelSetup:
    """Watched servers; close it."""

    def __init__(self, down_after_ms: int = 1000) -> None:
        self.servers: list[RedisServer] = []
        self.sentinels: list[RedisServer] = []
        try:
            self._start(down_after_ms)
        except BaseException:
            self.close()
            raise

    def _start(self, down_after_ms: int) -> None:
        master = RedisServer(*AT_ONCE)
        self.servers.append(master)
        for _ in range(2):
            replica_of = ("--replicaof", "127.0.0.1", str(master.port))
            self.servers.append(RedisServer(*AT_ONCE, *replica_of))
        wait_until(lambda: master.command("INFO", "replication").count(b"state=online") == 2)
        for _ in range(3):
            self.sentinels.append(Sentinel(master.port, down_after_ms))
        for sentinel in self.sentinels:
            wait_until(partial(_sees_all, sentinel))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}"

    @property
    def master(self) -> RedisServer:
        """The server that is a master and answers; there is one when nothing is wrong."""
        answer = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        port = int(answer.split(b"\r\n")[4])
        return next(one for one in self.servers if one.port == port)

    def close(self) -> None:
        for one in (*self.sentinels, *self.servers):
            one.close()


class Sentinel(RedisServer):
    """A Sentinel is a redis-server that rewrites its own configuration."""

    def __init__(
        self, master_port: int, down_after_ms: int, *, quorum: int = 2, lines: Iterable[str] = ()
    ) -> None:
        self._lines = (
            f"sentinel monitor {NAME} 127.0.0.1 {master_port} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {down_after_ms}",
            f"sentinel failover-timeout {NAME} 5000",
            f"sentinel parallel-syncs {NAME} 1",
            *lines,
        )
        super().__init__(port=free_port())

    def arguments(self) -> list[str]:
        path: Path = self.folder / "sentinel.conf"
        path.write_text("\n".join([f"port {self.port}", "bind 127.0.0.1", *self._lines, ""]))
        return [str(path), "--sentinel", "--dir", str(self.folder), "--logfile", "log"]


def _sees_all(sentinel: RedisServer) -> bool:
    words = sentinel.command("SENTINEL", "MASTER", NAME).split(b"\r\n")
    state = dict(zip(words[2::4], words[4::4], strict=False))
    return state.get(b"num-slaves") == b"2" and state.get(b"num-other-sentinels") == b"2"


def wait_until(is_true: Callable[[], bool], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait for what servers do among themselves."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError("the servers did not find each other")
        time.sleep(0.05)
