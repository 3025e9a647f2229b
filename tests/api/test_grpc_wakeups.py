import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from controlplane.adapters.grpc_wakeups import unblocked_wakeups

STREAMS = 400
"""A message on each is three events for one loop; 278 wake-ups fit into the socket."""

BUSY_S = 0.002


async def echo(messages: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


class Echo(grpc.GenericRpcHandler):
    def service(self, _: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(echo)


async def test_a_busy_loop_gets_many_events_a_turn() -> None:
    with unblocked_wakeups():
        server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls: list[Any] = [channel.stream_stream("/any/one")() for _ in range(STREAMS)]

        async def there_and_back(call: Any) -> None:
            await call.write(b"hello")
            assert await call.read() == b"hello"

        await asyncio.gather(*map(there_and_back, calls))
        again = asyncio.gather(*map(there_and_back, calls))
        turns = 0
        while not again.done():
            time.sleep(BUSY_S)  # noqa: ASYNC251 - what a busy loop does
            await asyncio.sleep(0)
            turns += 1
        await again
        for call in calls:
            call.cancel()
    await server.stop(None)
    assert turns < STREAMS
