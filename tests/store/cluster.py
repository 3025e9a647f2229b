"""A Redis Cluster of three masters on loopback."""

from tests.store.sentinel import wait_until
from tests.store.servers import RedisServer

SLOTS = 16_384
MASTERS = 3


class ClusterSetup:
    """Three servers that share the slots; close it."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        for _ in range(MASTERS):
            self.servers.append(RedisServer("--cluster-enabled", "yes"))
        bounds = [SLOTS * number // MASTERS for number in range(MASTERS + 1)]
        for server, first, behind in zip(self.servers, bounds, bounds[1:], strict=False):
            server.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(behind - 1))
        for number, server in enumerate(self.servers):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            server.command("CLUSTER", "MEET", "127.0.0.1", str(self.servers[0].port))
        wait_until(lambda: all(self._is_whole(server) for server in self.servers))

    @staticmethod
    def _is_whole(server: RedisServer) -> bool:
        state = server.command("CLUSTER", "INFO")
        return b"cluster_state:ok" in state and b"cluster_known_nodes:3" in state

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
