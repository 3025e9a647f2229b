"""A Redis Cluster of three masters on loopback, each with a replica if asked for."""

from collections.abc import Callable

from tests.store.sentinel import AT_ONCE, wait_until
from tests.store.servers import RedisServer

SLOTS = 16_384
MASTERS = 3

PING = ("--repl-ping-replica-period", "1")
"""A replica of a master to which nobody writes has nothing to say for ten seconds."""


class ClusterSetup:
    """Three masters that share the slots; close it."""

    def __init__(self, *options: str, replicas: bool = False) -> None:
        """`options` are those of all servers; with `replicas` each master has one."""
        self.servers: list[RedisServer] = []
        self._options = ("--cluster-enabled", "yes", *AT_ONCE, *PING, *options)
        try:
            self._start()
            if replicas:
                self._add_replicas()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        for _ in range(MASTERS):
            self.servers.append(RedisServer(*self._options))
        bounds = [SLOTS * number // MASTERS for number in range(MASTERS + 1)]
        for server, first, behind in zip(self.servers, bounds, bounds[1:], strict=False):
            server.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(behind - 1))
        for number, server in enumerate(self.servers):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            self._meet(server)
        self._wait_for_all(self._is_whole)

    def _add_replicas(self) -> None:
        masters = list(self.servers)
        for _ in masters:
            self.servers.append(RedisServer(*self._options))
            self._meet(self.servers[-1])
        self._wait_for_all(self._is_whole)
        for master, replica in zip(masters, self.servers[MASTERS:], strict=True):
            id_ = master.command("CLUSTER", "MYID").split(b"\r\n")[1].decode()
            replica.command("CLUSTER", "REPLICATE", id_)
        # Until all say so, a fail-over could go wrong: a replica of which nobody knows gets no votes.
        self._wait_for_all(
            lambda one: one.command("CLUSTER", "NODES").count(b"slave ") == len(masters)
        )
        wait_until(lambda: all(map(has_replica, masters)))

    def _meet(self, server: RedisServer) -> None:
        server.command("CLUSTER", "MEET", "127.0.0.1", str(self.servers[0].port))

    def _wait_for_all(self, is_true: Callable[[RedisServer], bool]) -> None:
        wait_until(lambda: all(map(is_true, self.servers)))

    def _is_whole(self, server: RedisServer) -> bool:
        state = server.command("CLUSTER", "INFO")
        known = b"cluster_known_nodes:%d\r" % len(self.servers)
        return b"cluster_state:ok" in state and known in state

    @property
    def url(self) -> str:
        """Names one of them; the others are found."""
        return f"redis+cluster://127.0.0.1:{self.servers[0].port}"

    def clear(self) -> None:
        for server in self.servers:
            server.command("FLUSHALL")

    def close(self) -> None:
        for server in self.servers:
            server.close()


def has_replica(server: RedisServer) -> bool:
    """Whether it is a master, and a replica of it has said where it is: it confirms nothing before."""
    state = server.command("INFO", "replication")
    return b"state=online" in state and b",offset=0," not in state


def follows(server: RedisServer) -> bool:
    """Whether it is a replica that has all its master has."""
    return b"master_link_status:up" in server.command("INFO", "replication")
