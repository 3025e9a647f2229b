"""The called side of trunks: TrunkService (trunk.proto). Who calls is what the certificate says, never the message."""

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

import grpc
from thalweg.v1 import trunk_pb2, trunk_pb2_grpc

from relay.transport.tls import NodeIdentity, peer_identity
from relay.trunk import wire
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Message, TrunkError

OpenContext = grpc.aio.ServicerContext[trunk_pb2.OpenRequest, trunk_pb2.OpenResponse]
SignalContext = grpc.aio.ServicerContext[trunk_pb2.SignalRequest, trunk_pb2.SignalResponse]

PEER_WAIT_S = 2.0
"""How long a caller waits for the snapshot that names it: less than half of what it gives Open."""

PEER_LOOKS = 40


class TrunkServicer(trunk_pb2_grpc.TrunkServiceServicer):
    """Takes calls of nodes with a smaller id."""

    def __init__(self, manager: TrunkManager) -> None:
        self._manager = manager

    async def Open(
        self, request: trunk_pb2.OpenRequest, context: OpenContext
    ) -> trunk_pb2.OpenResponse:
        """Exchange addresses and keys.

        Aborts with UNAUTHENTICATED (no node's certificate), PERMISSION_DENIED (another node's name, no peer's),
        FAILED_PRECONDITION (not meant for this node, not the caller's turn, an older
        generation) or INVALID_ARGUMENT (a bad address or key).
        """
        identity = await self._peer(context)
        peer = identity.node
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
        if not await self._is_peer(identity):
            await _refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"the control plane has not told {mine} of node {peer} in {identity.region}",
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
        peer = (await self._peer(context)).node
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

    async def _is_peer(self, identity: NodeIdentity) -> bool:
        """Return whether the control plane wants us to talk to this node, soon at least.

        Both ends get their snapshots at about the same time; the caller's may be a moment ahead of ours.
        """
        for _ in range(PEER_LOOKS):
            if self._manager.is_peer(identity.node, identity.region):
                return True
            await asyncio.sleep(PEER_WAIT_S / PEER_LOOKS)
        return False

    async def _peer(self, context: OpenContext | SignalContext) -> NodeIdentity:
        identity = peer_identity(context.auth_context())
        if identity is None:
            await _refuse(
                context,
                grpc.StatusCode.UNAUTHENTICATED,
                "the certificate has no SPIFFE ID of a node (spiffe://thalweg/region/REGION/node/NODE)",
            )
        return identity


async def _refuse(
    context: OpenContext | SignalContext, code: grpc.StatusCode, details: str
) -> NoReturn:
    await context.abort(code, details)
    raise AssertionError("abort raises")
