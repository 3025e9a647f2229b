"""The gRPC door: NodeService, CertificateService, AllocatorService, health and reflection, over mTLS only."""

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from thalweg.v1 import (
    allocator_pb2,
    allocator_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
)

from controlplane.adapters.grpc_wakeups import unblocked_wakeups
from controlplane.api.allocator_grpc import Allocator
from controlplane.api.context import ApiContext
from controlplane.api.enrollment_grpc import CertificateDoor
from controlplane.api.identity import Authorisation
from controlplane.api.node_sessions import NodeSessions
from controlplane.api.nodes_grpc import NodeDoor

SERVICES = (
    node_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name,
    allocator_pb2.DESCRIPTOR.services_by_name["AllocatorService"].full_name,
    enrollment_pb2.DESCRIPTOR.services_by_name["CertificateService"].full_name,
)

OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),  # finds a dead connection before operators do
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # nodes may ask for signs of life too
    (
        "grpc.server_handshake_timeout_ms",
        10_000,
    ),  # TLS takes two round trips, not the two minutes of the default
    (
        "grpc.max_concurrent_streams",
        256,
    ),  # of one connection; a signalling server has a few dozen joins in flight
    (
        "grpc.max_receive_message_length",
        4 * 1024 * 1024,
    ),  # the report of a node with a thousand people and ten tracks
    ("grpc.max_metadata_size", 16 * 1024),
    (
        "grpc.max_allowed_incoming_connections",
        4096,
    ),  # those that say nothing among them; a thousand nodes have two each at most
    # A second process on the same port is a mistake, not a share of the load.
    ("grpc.so_reuseport", 0),
)

STOP_GRACE_S = 0.5
"""Joins in flight, and the sessions of nodes once they are told, end in milliseconds."""

STOP_TURNS = 25
"""Looks for sessions that are still ending, within another grace."""


class GrpcServer:
    """The server and its health, started and stopped in order."""

    def __init__(
        self, context: ApiContext, sessions: NodeSessions, credentials: grpc.ServerCredentials
    ) -> None:
        with unblocked_wakeups():
            self._server = grpc.aio.server(interceptors=[Authorisation()], options=OPTIONS)
        self._sessions = sessions
        self._health = health.aio.HealthServicer()
        self._credentials = credentials
        node_pb2_grpc.add_NodeServiceServicer_to_server(NodeDoor(context, sessions), self._server)
        allocator_pb2_grpc.add_AllocatorServiceServicer_to_server(Allocator(context), self._server)
        enrollment_pb2_grpc.add_CertificateServiceServicer_to_server(
            CertificateDoor(context), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    async def start(self, address: str) -> int:
        """Listen on host:port and return the port. Raises OSError when that is not possible."""
        try:
            port: int = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await self._server.start()
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self) -> None:
        """Say so to health checks, end calls, end sessions."""
        await self._health.enter_graceful_shutdown()
        self._sessions.end_all()
        await self._server.stop(STOP_GRACE_S)
        # gRPC does not wait for handlers that its clients have left, and prints a traceback for those that the end of
        # the loop cancels. They need a few turns of the loop; its own tasks around them one or two more.
        for _ in range(STOP_TURNS):
            await asyncio.sleep(STOP_GRACE_S / STOP_TURNS)
            if not self._sessions.open:
                break
