"""AllocatorService: the join API for signalling servers that speak gRPC; the same rules as over HTTP."""

from typing import Any

from grpc.aio import ServicerContext
from pydantic import ValidationError
from thalweg.v1 import allocator_pb2, allocator_pb2_grpc

from controlplane.api.client_address import client_address
from controlplane.api.context import ApiContext
from controlplane.api.grpc_status import abort
from controlplane.api.joining import join
from controlplane.api.schemas import JoinBody, first_fault
from controlplane.core import ids
from controlplane.core.model import Join
from controlplane.errors import ControlPlaneError, InvalidInputError
from controlplane.services.answers import IceServer, Joined, NodeAddress

Context = ServicerContext[allocator_pb2.JoinRequest, allocator_pb2.JoinResponse]


class Allocator(allocator_pb2_grpc.AllocatorServiceServicer):
    """Answers where participants go."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def Join(
        self, request: allocator_pb2.JoinRequest, context: Context
    ) -> allocator_pb2.JoinResponse:
        """Admit a participant or repeat the answer that it already has."""
        try:
            self._context.keys.caller(_authorization(context))
            return _response(await join(self._context, _join(request)))
        except ControlPlaneError as error:
            await abort(context, error)


def _authorization(context: Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else value.decode(errors="replace")
    return None


def _join(request: allocator_pb2.JoinRequest) -> Join:
    """Return the core's request. Raises InvalidInputError with the codes of the HTTP door."""
    room, participant = ids.parse_room(request.room), ids.parse_participant(request.participant)
    members: dict[str, Any] = {
        "session": request.session,
        "client_ip": request.client_ip or None,
        "probes": [{"region": one.region, "rtt_ms": list(one.rtt_ms)} for one in request.probes],
        "role": request.role or "publisher",
        "require": {
            "residency": list(request.require.residency),
            "regions": list(request.require.regions),
        },
        "exclude_nodes": list(request.exclude_nodes),
    }
    try:
        body = JoinBody.model_validate(members)
    except ValidationError as error:
        raise InvalidInputError("body-invalid", first_fault("the request", error)) from error
    address = client_address(vouched=body.client_ip, peer=None, forwarded_for=(), trusted=())
    return body.to_join(room, participant, address)


def _response(joined: Joined) -> allocator_pb2.JoinResponse:
    lease = joined.assignment
    return allocator_pb2.JoinResponse(
        room=lease.room,
        participant=lease.participant,
        session=lease.session,
        node=_node(joined.node),
        token=joined.token,
        token_expires_at=joined.token_expires_at,
        ice_servers=[_ice_server(server) for server in joined.ice_servers],
        fallbacks=[_node(node) for node in joined.fallbacks],
        epoch=lease.epoch,
        created=joined.created,
        because=lease.decision.because,
    )


def _node(node: NodeAddress) -> allocator_pb2.AssignedNode:
    return allocator_pb2.AssignedNode(
        id=node.id, region=node.region, whip_url=node.whip_url, whep_url=node.whep_url
    )


def _ice_server(server: IceServer) -> allocator_pb2.IceServer:
    return allocator_pb2.IceServer(
        urls=server.urls, username=server.username or "", credential=server.credential or ""
    )
