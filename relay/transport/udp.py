"""What every UDP socket of the process has in common; who sends what to whom is the subclass's business."""

import asyncio
import socket
from typing import cast

SOCKET_BUFFER = 4 * 1024 * 1024
"""Bytes to ask the kernel for: key frames of many tracks arrive at once. It may grant less."""


class UdpSocket(asyncio.DatagramProtocol):
    """A datagram protocol that keeps its transport; `_transport` is None while the socket is not open."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def local_address(self) -> tuple[str, int]:
        """Where the socket is bound. Raises RuntimeError while it is not open."""
        if self._transport is None:
            raise RuntimeError("the socket is not open")
        host, port = self._transport.get_extra_info("sockname")[:2]
        return str(host), int(port)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and enlarge the kernel's buffers."""
        # Not an isinstance check: asyncio's own datagram transport does not inherit it before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)
        sock = transport.get_extra_info("socket")
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)

    def error_received(self, exc: Exception) -> None:
        """Pass over an ICMP error: silence, which is watched elsewhere, tells whether a far end is gone."""
