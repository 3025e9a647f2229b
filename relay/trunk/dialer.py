"""The calling side of a trunk: opens it, talks, and opens it again for as long as it is wanted."""

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
from thalweg.v1 import trunk_pb2, trunk_pb2_grpc

from relay.core.backoff import backoff_s
from relay.transport.tls import Credentials
from relay.trunk import wire
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Message, TrunkError
from relay.trunk.trunk import Trunk, TrunkSession

OPEN_TIMEOUT_S = 5.0
"""For connecting, the TLS handshake and the answer: some five round trips of the longest path there is."""

CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # nodes reach each other directly
    # A new attempt is a new connection, with no back-off of gRPC's own.
    ("grpc.use_local_subchannel_pool", 1),
)


async def dial(manager: TrunkManager, trunk: Trunk, tls: Credentials) -> None:
    """Hold the trunk open for as long as the manager wants it called, or until cancelled.

    Cancelling alone is not enough: before Python 3.13 a TaskGroup, as in `Trunk.converse`, hides a cancellation that
    comes together with an error.
    """
    failures = 0
    while (target := manager.target(trunk)) is not None:
        worked = await _attempt(manager, trunk, tls, target)
        failures = 0 if worked else failures + 1
        await asyncio.sleep(backoff_s(failures, random.random()))  # noqa: S311 - spreads retries


async def _attempt(manager: TrunkManager, trunk: Trunk, tls: Credentials, target: str) -> bool:
    """Open the trunk once and talk until it is over; return whether the far end was heard."""
    session = None
    try:
        async with grpc.aio.secure_channel(
            target, tls.channel_credentials(), options=CHANNEL_OPTIONS
        ) as channel:
            stub = trunk_pb2_grpc.TrunkServiceStub(channel)
            session, name = await _open(manager, trunk, stub)
            await _talk(trunk, session, name, stub)
    except grpc.aio.AioRpcError as error:
        why = f"{target}: {error.code().name}: {error.details()}"
    except (TrunkError, ValueError) as error:
        why = f"{target}: {error}"
    else:
        why = f"{target}: the other node ended the signalling"
    finally:
        if session is not None:
            trunk.end(session, "the call ended")
    trunk.complain(why)
    return session is not None and session.heard


async def _open(
    manager: TrunkManager, trunk: Trunk, stub: "trunk_pb2_grpc.TrunkServiceAsyncStub"
) -> tuple[TrunkSession, str]:
    """Exchange addresses and keys; return the session and its name at the far end."""
    ours = manager.offer()
    generation = manager.next_generation()
    request = trunk_pb2.OpenRequest(
        node=manager.node,
        to_node=trunk.peer,
        generation=generation,
        endpoint=wire.endpoint_message(ours.endpoint),
        send_key=trunk_pb2.SrtpKey(key_and_salt=ours.send_key),
    )
    response = await stub.Open(request, timeout=OPEN_TIMEOUT_S)
    theirs = wire.call(response.endpoint, response.send_key)
    return manager.opened(trunk, ours, theirs, generation), response.trunk


async def _talk(
    trunk: Trunk, session: TrunkSession, name: str, stub: "trunk_pb2_grpc.TrunkServiceAsyncStub"
) -> None:
    call = stub.Signal()

    async def read() -> AsyncIterator[Message | None]:
        async for response in call:
            yield trunk.understood(response.message)

    async def write(message: Message) -> None:
        request = trunk_pb2.SignalRequest(trunk=name, message=wire.to_wire(message))
        try:
            await call.write(request)
        except asyncio.InvalidStateError:  # grpc.aio's word for a call that has ended
            raise TrunkError("the other node ended the signalling") from None

    try:
        await trunk.converse(session, read(), write)
    finally:
        call.cancel()
