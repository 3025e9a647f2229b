"""What every UDP socket of the process has in common; who sends what to whom is the subclass's business.

One port is a pair of sockets (SO_REUSEPORT) that the kernel sorts datagrams into: one for sources that are known, read
as they come, and one for strangers, read so many at a time. Whatever strangers send, calls keep their own queue, and
the event loop keeps its time.
"""

import asyncio
import ctypes
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from typing import cast

import structlog

from relay.core.socket_filter import Program, by_source, packed, source_key

log = structlog.get_logger("relay.udp")

Address = tuple[str, int]

SOCKET_BUFFER = 4 * 1024 * 1024
"""Bytes to ask the kernel for: key frames of many tracks arrive at once. It may grant less."""

STRANGERS_BUFFER = 256 * 1024
"""Bytes. Some three hundred requests, which are read within 20 ms; what waits longer is asked again anyway."""

STRANGERS_AT_ONCE = 32
"""Datagrams of strangers between two turns of the event loop: a third of a millisecond if each has to be answered."""

STRANGERS_PAUSE_S = 0.002
"""After so many at once: 16,000 a second at most, a tenth of a core. Hundreds of clients that arrive in one second send
a few thousand."""

_LARGEST = 2048
"""Bytes; more than any datagram that is taken."""

_SO_ATTACH_FILTER = 26  # Linux, asm-generic/socket.h; Python names neither
_SO_DETACH_FILTER = 27
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_MEMINFO = 55


class UdpSocket(asyncio.DatagramProtocol):
    """A datagram protocol that keeps its transport; `_transport` is None while the port is not open."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._strangers: socket.socket | None = None
        """None where the kernel cannot sort: then one socket takes all."""
        self._waiting: asyncio.TimerHandle | None = None

    @property
    def local_address(self) -> Address:
        """Where the socket is bound. Raises RuntimeError while it is not open."""
        if self._transport is None:
            raise RuntimeError("the socket is not open")
        host, port = self._transport.get_extra_info("sockname")[:2]
        return str(host), int(port)

    async def open(self, address: Address, strangers: Program) -> None:
        """Bind, to a free port for port 0; `strangers` filters what sources send that are not known.

        Raises OSError when the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*address, type=socket.SOCK_DGRAM)
        family, where = found[0][0], found[0][4]
        first = _socket(family)
        try:
            # Without SO_REUSEPORT yet: two processes that shared a port would take each other's packets.
            first.bind(where)
            second = _beside(first, strangers)
            self._strangers = None if second is None else first
            await loop.create_datagram_endpoint(lambda: self, sock=second or first)
        except BaseException:
            first.close()
            raise
        if self._strangers is not None:
            loop.add_reader(self._strangers, self._read_strangers)

    def close(self) -> None:
        """Close the port."""
        if self._waiting is not None:
            self._waiting.cancel()
        if self._strangers is not None:
            asyncio.get_running_loop().remove_reader(self._strangers)
            self._strangers.close()
            self._strangers = None
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def expect(self, sources: Collection[Address]) -> None:
        """Treat these sources as known, from the next datagram on, and no others."""
        if self._strangers is not None:
            keys = {source_key(*source) for source in sources}
            _attach(self._strangers, _SO_ATTACH_REUSEPORT_CBPF, by_source(keys))

    @property
    def unqueued(self) -> int:
        """Datagrams that the kernel dropped since the port opened: filtered, or without room (modulo 2^32)."""
        if self._transport is None:
            return 0
        known = self._transport.get_extra_info("socket")
        return sum(_dropped(one) for one in (known, self._strangers) if one is not None)

    # --- asyncio.DatagramProtocol ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and enlarge the kernel's buffers."""
        # Not an isinstance check: asyncio's own datagram transport does not inherit it before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)
        sock = transport.get_extra_info("socket")
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)

    def error_received(self, exc: Exception) -> None:
        """Pass over an ICMP error: silence, which is watched elsewhere, tells whether a far end is gone."""

    # --- strangers -------------------------------------------------------------------------------

    def _read_strangers(self) -> None:
        """Take some of what strangers sent; when there is more, pause, and let the kernel drop what finds no room."""
        for _ in range(STRANGERS_AT_ONCE):
            if self._strangers is None:  # closed by what came before
                return
            try:
                data, source = self._strangers.recvfrom(_LARGEST)
            except OSError:  # nothing more, or an ICMP error
                return
            self.datagram_received(data, source)
        if self._strangers is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._strangers)
            self._waiting = loop.call_later(STRANGERS_PAUSE_S, self._read_again)

    def _read_again(self) -> None:
        if self._strangers is not None:
            asyncio.get_running_loop().add_reader(self._strangers, self._read_strangers)


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def _beside(strangers: socket.socket, program: Program) -> socket.socket | None:
    """Return a second socket on the port, for known sources, of which there are none yet.

    None if the kernel cannot sort datagrams; `strangers` then takes all of them.
    """
    known = _socket(strangers.family)
    try:
        _attach(strangers, _SO_ATTACH_FILTER, program)
        for one in (strangers, known):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        known.bind(strangers.getsockname())
        _attach(strangers, _SO_ATTACH_REUSEPORT_CBPF, by_source(()))
    except OSError as error:
        known.close()
        _detach(strangers)
        log.warning("JUNK IS NOT KEPT APART: this kernel has no socket filters", why=str(error))
        return None
    strangers.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STRANGERS_BUFFER)
    return known


def _attach(sock: socket.socket, option: int, program: Program) -> None:
    """Set a `struct sock_fprog`. Raises OSError."""
    code = ctypes.create_string_buffer(packed(program))
    sock.setsockopt(
        socket.SOL_SOCKET, option, struct.pack("HP", len(program), ctypes.addressof(code))
    )


def _dropped(sock: socket.socket) -> int:
    """Return SK_MEMINFO_DROPS (linux/sock_diag.h), 0 where there is no such thing."""
    try:
        counters = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
    except OSError:
        return 0
    return int(struct.unpack("=9I", counters)[8]) if len(counters) == 36 else 0


def _detach(sock: socket.socket) -> None:
    with suppress(OSError):  # there is none
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
