"""Runs the trunks of a node: the UDP socket, the gRPC server, the timers, and a task for each node to call."""

import asyncio

import grpc
import structlog
from thalweg.v1 import trunk_pb2_grpc

from relay.core.socket_filter import rtp_only
from relay.transport.clock import monotonic
from relay.transport.tls import Credentials
from relay.transport.udp import Address
from relay.trunk.dialer import dial
from relay.trunk.manager import TrunkManager
from relay.trunk.service import TrunkServicer
from relay.trunk.trunk import Trunk

log = structlog.get_logger("relay.trunk")

TICK_S = 0.010
"""Rhythm of timers: the resolution of NACK guards and retries, which are 8 ms and more."""

SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    (
        "grpc.server_handshake_timeout_ms",
        10_000,
    ),  # TLS takes two round trips, not the two minutes of the default
    ("grpc.max_concurrent_streams", 16),  # of one connection; a node needs two
    (
        "grpc.max_receive_message_length",
        4 * 1024 * 1024,
    ),  # the tracks of a room, MAX_TRACKS of them
    ("grpc.max_metadata_size", 16 * 1024),
    (
        "grpc.max_allowed_incoming_connections",
        2048,
    ),  # those that say nothing among them; a node has one with each peer
)

STOP_GRACE_S = 0.2
"""For calls in flight when the process ends; Signal never ends by itself."""


class TrunkRunner:
    """`udp` and `grpc_bind` are where to listen; port 0 takes a free one."""

    def __init__(
        self, manager: TrunkManager, tls: Credentials, *, udp: Address, grpc_bind: Address
    ) -> None:
        self.ready = asyncio.Event()
        """Set when both sockets are open."""
        self.grpc_port = 0
        self._manager = manager
        self._tls = tls
        self._udp = udp
        self._grpc_bind = grpc_bind
        self._dialers: dict[Trunk, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when an address cannot be bound."""
        await self._manager.socket.open(self._udp, rtp_only())
        server = grpc.aio.server(options=SERVER_OPTIONS)
        trunk_pb2_grpc.add_TrunkServiceServicer_to_server(TrunkServicer(self._manager), server)
        try:
            self.grpc_port = self._listen(server)
            await server.start()
            self.ready.set()
            log.info("trunks open", udp=self._manager.endpoint, grpc_port=self.grpc_port)
            async with asyncio.TaskGroup() as tasks:
                try:
                    while True:
                        self._manager.tick(monotonic())
                        self._follow(tasks)
                        await asyncio.sleep(TICK_S)
                finally:
                    self._manager.stopping = True
        finally:
            self._manager.close()
            await server.stop(STOP_GRACE_S)
            self._manager.socket.close()

    def _listen(self, server: grpc.aio.Server) -> int:
        """Bind the server's port and return it."""
        where = host_port(self._grpc_bind)
        try:
            return server.add_secure_port(where, self._tls.server_credentials())
        except RuntimeError as error:  # grpc's only word for it
            raise OSError(f"cannot listen on {where}: {error}") from error

    def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """Have one task for each trunk to call."""
        wanted = {t for t in self._manager.trunks.values() if self._manager.target(t) is not None}
        for trunk in self._dialers.keys() - wanted:
            self._dialers.pop(trunk).cancel()
        for trunk in wanted - self._dialers.keys():
            self._dialers[trunk] = tasks.create_task(dial(self._manager, trunk, self._tls))


def host_port(address: Address) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address (RFC 3986, section 3.2.2)."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
