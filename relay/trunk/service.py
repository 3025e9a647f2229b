"""The called side of trunks: TrunkService (trunk.proto). Who calls is what the certificate says, never the message."""

from collections.abc import AsyncIterator
from typing import NoReturn

import grpc
from thalweg.v1 import trunk_pb2, trunk_pb2_grpc

from relay.transport.tls import peer_identity
from relay.trunk import wire
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Message, TrunkError

OpenContext = grpc.aio.ServicerContext[trunk_pb2.OpenRequest, trunk_pb2.OpenResponse]
SignalContext = grpc.aio.ServicerContext[trunk_pb2.SignalRequest, trunk_pb2.SignalResponse]


class TrunkServicer(trunk_pb2_grpc.TrunkServiceServicer):
    """Takes calls of nodes with a smaller id."""

    def __init__(self, manager: TrunkManager) -> None:
        self._manager = manager

    async def Open(
        self, request: trunk_pb2.OpenRequest, context: OpenContext
    ) -> trunk_pb2.OpenResponse:
        """Exchange addresses and keys.

        Aborts with UNAUTHENTICATED (no node's certificate), PERMISSION_DENIED (another node's name),
        FAILED_PRECONDITION (not meant for this node, not the caller's turn, an older generation) or
        INVALID_ARGUMENT (a bad address or key).
        """
        peer = await self._peer(context)
        mine = self._manager.node
        if request.node != peer:
            await _refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate is of node {peer} and not of {request.node[:63]!r}",
            )
        if request.to_node != mine:
            await _refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this is {mine} and not {request.to_node[:63]!r}: the caller's address of it is wrong",
            )
        if peer >= mine:
            await _refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                f"of {mine} and {peer}, {min(mine, peer)} calls",
            )
        try:
            theirs = wire.call(request.endpoint, request.send_key)
            name, ours = self._manager.answer(peer, theirs, request.generation)
        except ValueError as error:
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TrunkError as error:
            await _refuse(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return trunk_pb2.OpenResponse(
            trunk=name,
            endpoint=wire.endpoint_message(ours.endpoint),
            send_key=trunk_pb2.SrtpKey(key_and_salt=ours.send_key),
        )

    # A coroutine and not an async generator, which grpc.aio takes as well: reading, writing and timers share one
    # TaskGroup, and a generator must not be suspended inside one.
    async def Signal(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[trunk_pb2.SignalRequest],
        context: SignalContext,
    ) -> None:
        """Talk over the trunk that the first message names.

        Aborts with UNAUTHENTICATED, NOT_FOUND (no such trunk of the caller's; open one), or UNAVAILABLE when the
        trunk is over.
        """
        peer = await self._peer(context)
        first = await anext(request_iterator, None)
        claimed = None if first is None else self._manager.claim(peer, first.trunk)
        if first is None or claimed is None:
            await _refuse(context, grpc.StatusCode.NOT_FOUND, "there is no such trunk: open one")
        trunk, session = claimed

        async def read() -> AsyncIterator[Message | None]:
            yield trunk.understood(first.message)
            async for request in request_iterator:
                yield trunk.understood(request.message)

        async def write(message: Message) -> None:
            await context.write(trunk_pb2.SignalResponse(message=wire.to_wire(message)))

        try:
            await trunk.converse(session, read(), write)
        except TrunkError as error:
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            trunk.end(session, "the call ended")

    async def _peer(self, context: OpenContext | SignalContext) -> str:
        identity = peer_identity(context.auth_context())
        if identity is None:
            await _refuse(
                context,
                grpc.StatusCode.UNAUTHENTICATED,
                "the certificate has no SPIFFE ID of a node (spiffe://thalweg/region/REGION/node/NODE)",
            )
        return identity.node


async def _refuse(
    context: OpenContext | SignalContext, code: grpc.StatusCode, details: str
) -> NoReturn:
    await context.abort(code, details)
    raise AssertionError("abort raises")
