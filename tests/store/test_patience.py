"""A process that stood still does not blame Redis."""

import asyncio
import gc
import socket
import threading
import time

import pytest

from controlplane.store.redis.patience import time_limit


async def test_an_answer_that_came_while_the_process_stood_still_is_heard() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        sender = threading.Timer(0.05, far.sendall, (b"here",))
        sender.start()
        async with time_limit(0.1):
            asyncio.get_running_loop().call_soon(time.sleep, 0.3)
            assert await asyncio.get_running_loop().sock_recv(near, 4) == b"here"
        sender.join()


@pytest.mark.parametrize("stands_still_s", [0.0, 0.2])
async def test_no_answer_is_none(stands_still_s: float) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def wait() -> None:
        async with time_limit(0.1):
            loop.call_soon(time.sleep, stands_still_s)
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        await wait()
    assert loop.time() - begun < 1.0


async def test_nothing_is_left_for_the_collector() -> None:
    gc.collect()
    for _ in range(3):
        async with time_limit(0.1):
            await asyncio.sleep(0)
    assert gc.collect() == 0
