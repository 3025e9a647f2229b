"""AllocatorService: the join API for signalling servers that speak gRPC; the same rules as over HTTP."""

from typing import Any
from urllib.parse import unquote

from grpc.aio import ServicerContext
from pydantic import ValidationError
from thalweg.v1 import allocator_pb2, allocator_pb2_grpc

from controlplane.api.audit import Attempt, accepted_request_id
from controlplane.api.client_address import client_address
from controlplane.api.context import ApiContext
from controlplane.api.grpc_status import abort
from controlplane.api.joining import join
from controlplane.api.schemas import JoinBody, first_fault
from controlplane.core import ids
from controlplane.core.identity import Caller, Scope
from controlplane.core.model import Join
from controlplane.core.shedding import Cost
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
        caller: Caller | None = None
        facts: dict[str, object] = {}
        try:
            self._context.overload.check(Cost.REPEAT)
            authorization = _metadata(context, "authorization")
            caller = self._context.callers.caller(
                authorization, peer=lambda: _peer(context), now=self._context.clock.now()
            )
            caller.require(Scope.JOIN)
            asked = _join(request, caller)
            facts |= {"room": asked.room, "participant": asked.participant}
            joined = await join(self._context, caller, asked)
        except ControlPlaneError as error:
            await self._context.audit.failed(_attempt(context), caller, error, facts)
            await abort(context, error)
        if joined.created:
            facts["node"] = joined.node.id
            await self._context.audit.done(_attempt(context), caller, facts)
        return _response(joined, caller)


def _metadata(context: Context, name: str) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return None


def _peer(context: Context) -> str:
    """Return the address that calls; gRPC writes ipv4:192.0.2.1:4711 or ipv6:%5B2001:db8::1%5D:4711."""
    return unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")


def _attempt(context: Context) -> Attempt:
    request = accepted_request_id(_metadata(context, "x-request-id"))
    return Attempt("participant.join", Scope.JOIN, _peer(context), request)


def _join(request: allocator_pb2.JoinRequest, caller: Caller) -> Join:
    """Return the core's request. Raises InvalidInputError and NotFoundError with the codes of the HTTP door."""
    room, participant = caller.room(request.room), ids.parse_participant(request.participant)
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


def _response(joined: Joined, caller: Caller) -> allocator_pb2.JoinResponse:
    lease = joined.assignment
    return allocator_pb2.JoinResponse(
        room=caller.shown(lease.room),
        participant=lease.participant,
        session=lease.session,
        node=_node(joined.node),
        token=joined.token,
        token_expires_at=joined.token_expires_at,
        ice_servers=[_ice_server(server) for server in joined.ice_servers],
        fallbacks=[_node(node) for node in joined.fallbacks],
        epoch=lease.epoch,
        created=joined.created,
        degraded=joined.degraded,
        because=lease.decision.because,
    )


def _node(node: NodeAddress) -> allocator_pb2.AssignedNode:
    return allocator_pb2.AssignedNode(
        id=node.id,
        region=node.region,
        whip_url=node.whip_url,
        whep_url=node.whep_url,
        ice_servers=[_ice_server(server) for server in node.ice_servers],
    )


def _ice_server(server: IceServer) -> allocator_pb2.IceServer:
    return allocator_pb2.IceServer(
        urls=server.urls, username=server.username or "", credential=server.credential or ""
    )
