import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from tests.fakes import lossy_udp
from tests.fakes.lossy_udp import LossyUdp
from tests.fakes.waiting import eventually


class Echo(asyncio.DatagramProtocol):
    """Sends every datagram back, with the number of its sender in front."""

    def __init__(self) -> None:
        self.senders: dict[tuple[str, int], int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        number = self.senders.setdefault(addr, len(self.senders))
        self.transport.sendto(bytes([number]) + data, addr)


@asynccontextmanager
async def proxied_echo(loss: float, delay_s: float = 0.0, seed: int = 1) -> AsyncIterator[LossyUdp]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    try:
        target = transport.get_extra_info("sockname")
        async with LossyUdp(target, loss=loss, delay_s=delay_s, seed=seed) as proxy:
            yield proxy
    finally:
        transport.close()


def client_socket() -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    return client


async def ask(client: socket.socket, to: tuple[str, int], data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(client, data, to)
    async with asyncio.timeout(5):
        return await loop.sock_recv(client, 100)


async def test_without_loss_everything_passes_both_ways_and_clients_stay_apart() -> None:
    async with proxied_echo(loss=0) as proxy:
        with client_socket() as one, client_socket() as two:
            assert await ask(one, proxy.address, b"x") == b"\x00x"
            assert await ask(two, proxy.address, b"y") == b"\x01y"
            assert await ask(one, proxy.address, b"z") == b"\x00z"
        assert (proxy.up.passed, proxy.up.lost) == (3, 0)
        assert (proxy.down.passed, proxy.down.lost) == (3, 0)


async def test_loss_is_near_its_probability_and_the_same_for_the_same_seed() -> None:
    async def lost(seed: int) -> int:
        async with proxied_echo(loss=0.05, seed=seed) as proxy:
            with client_socket() as client:
                for number in range(2000):
                    await asyncio.get_running_loop().sock_sendto(client, b"x", proxy.address)
                    if number % 50 == 0:
                        await asyncio.sleep(0.001)  # do not overflow the receive buffer
                await eventually(
                    lambda: None if proxy.up.passed + proxy.up.lost == 2000 else str(proxy.up)
                )
            return proxy.up.lost

    first = await lost(seed=7)
    assert 60 < first < 140
    assert await lost(seed=7) == first
    assert await lost(seed=8) != first


async def test_delay_is_added_in_each_direction() -> None:
    async with proxied_echo(loss=0, delay_s=0.05) as proxy:
        with client_socket() as client:
            began = asyncio.get_running_loop().time()
            await ask(client, proxy.address, b"x")
            assert asyncio.get_running_loop().time() - began >= 0.1


async def test_clients_are_bounded() -> None:
    async with proxied_echo(loss=0) as proxy:
        for _ in range(lossy_udp.MAX_CLIENTS + 5):
            with client_socket() as client:
                await ask(client, proxy.address, b"x")
        assert len(proxy._upstreams) == lossy_udp.MAX_CLIENTS


async def test_nobody_at_the_target_is_only_loss() -> None:
    with client_socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()
    async with LossyUdp(nobody, loss=0) as proxy:
        with client_socket() as client:
            for _ in range(5):
                await asyncio.get_running_loop().sock_sendto(client, b"x", proxy.address)
                await asyncio.sleep(0.01)
        assert proxy.up.passed + proxy.up.lost == 5
