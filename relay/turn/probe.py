"""Whether a TURN server answers: one STUN Binding request (RFC 8489), or a connection where it has no UDP."""

import asyncio
import secrets

from relay.core import stun

TIMEOUT_S = 1.0
REQUEST_BYTES = 24
"""The least that there is: what coturn says of its padding is an answer too."""


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, transaction: bytes) -> None:
        self._transaction = transaction
        self.came = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        message = stun.parse(data)
        if message is not None and message.transaction == self._transaction:
            self.came.set()


async def answers(host: str, port: int, *, udp: bool) -> bool:
    """Return whether the server at this address answers within TIMEOUT_S."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await (_udp if udp else _tcp)(host, port)
    except (OSError, TimeoutError):
        return False
    return True


async def _udp(host: str, port: int) -> None:
    transaction = secrets.token_bytes(12)
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Answer(transaction), remote_addr=(host, port)
    )
    try:
        transport.sendto(stun.binding_request(transaction, size=REQUEST_BYTES))
        await protocol.came.wait()
    finally:
        transport.close()


async def _tcp(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
