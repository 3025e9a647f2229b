"""Bounds on what connections to an HTTP door may hold: how many, how long without a request, how slowly they read.

aiohttp bounds a request's size, and the time between two on one connection. It waits for ever for headers that come
byte by byte, takes any number of connections, and writes to whoever never reads.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from guard.addresses import IpAddress, IpNetwork, network_of

HEADERS_WITHIN_S = 10.0
"""From the first byte, or the connection's beginning, to the end of the headers."""

READS_WITHIN_S = 10.0
"""A client that leaves answers in our buffers for so long does not read them."""

KEEP_ALIVE_S = 75.0
"""Without a request; longer than the 60 s after which proxies close their end, so that ours never closes first."""

BACKLOG = 2048
"""Connections that the kernel accepts for us meanwhile: all callers of a replica that died come at once."""

ACCEPTED_AT_ONCE = 64
"""Connections taken in a turn of the loop. uvloop takes one of each listening socket, and under load a turn takes
20 ms: the six hundredth caller would wait for 12 s where no shedding sees it. So one socket is listened on so often."""

MAX_LINE = 4096
"""Bytes of a request line; the longest path of either side has 500."""

MAX_FIELD = 8190
"""Bytes of one header: a JWT has 4 kB, a chain of proxies less; browsers send cookies of all that share the host."""

MAX_FIELDS = 64
"""Headers in one request."""


@dataclass(slots=True)
class ConnectionCounters:
    """Of one door, since the start."""

    refused: int = 0
    """Connections closed at once: too many in all, or of one address."""
    cut: int = 0
    """Connections closed because headers or reading took too long."""
    evicted: int = 0
    """Connections without a request in work, closed to make room."""


class Connections:
    """All connections of one door: `most` in all, and `per_address` of one IPv4 address or /64 of IPv6.

    `trusted` are the proxies that may have any number; `parse` reads an address, or returns None.
    """

    def __init__(
        self,
        trusted: Sequence[IpNetwork] = (),
        *,
        parse: Callable[[str], IpAddress | None],
        most: int,
        per_address: int,
        headers_within_s: float = HEADERS_WITHIN_S,
        reads_within_s: float = READS_WITHIN_S,
    ) -> None:
        self.counters = ConnectionCounters()
        self.headers_within_s = headers_within_s
        self.reads_within_s = reads_within_s
        self._trusted = trusted
        self._parse = parse
        self._most = most
        self._per_address = per_address
        self._open: dict[asyncio.BaseTransport, _Guard] = {}
        self._idle: dict[asyncio.BaseTransport, None] = {}
        """Those without a request in work, the longest first: they make room for others."""
        self._addresses: Tally[bytes] = Tally()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def enter(self, transport: asyncio.BaseTransport, guard: "_Guard", key: bytes | None) -> bool:
        """Count a new connection; return False if it has to go. `key` is None for a trusted proxy's."""
        if key is not None and self._addresses[key] >= self._per_address:
            self.counters.refused += 1
            return False
        if len(self._open) >= self._most and not self._make_room():
            self.counters.refused += 1
            return False
        self._open[transport] = guard
        self._idle[transport] = None
        if key is not None:
            self._addresses[key] += 1
        return True

    def leave(self, transport: asyncio.BaseTransport, key: bytes | None) -> None:
        """Forget a connection."""
        if self._open.pop(transport, None) is None:
            return
        self._idle.pop(transport, None)
        if key is not None:
            self._addresses[key] -= 1
            if not self._addresses[key]:
                del self._addresses[key]

    def idle(self, transport: asyncio.BaseTransport, *, is_idle: bool) -> None:
        """Note whether a connection has no request in work."""
        self._idle.pop(transport, None)
        if is_idle and transport in self._open:
            self._idle[transport] = None

    def key(self, host: str) -> bytes | None:
        """Return what connections of an address are counted by; None if they are not."""
        address = self._parse(host)
        if address is not None and any(address in network for network in self._trusted):
            return None
        return network_of(address)

    @property
    def middleware(self) -> Middleware:
        """Tell guards when a request is in work."""

        @web.middleware
        async def in_work(request: web.Request, handler: Handler) -> web.StreamResponse:
            guard = self._open.get(request.transport) if request.transport is not None else None
            if guard is None:
                return await handler(request)
            guard.begins()
            try:
                return await handler(request)
            finally:
                guard.ends()

        return in_work

    def _make_room(self) -> bool:
        """Close the connection that has been without a request longest, if there is one."""
        if not self._idle:
            return False
        self.counters.evicted += 1
        self._open[next(iter(self._idle))].abort()
        return True


class _Guard(asyncio.Protocol):
    """Stands before aiohttp's protocol of one connection."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._key: bytes | None = None
        self._in_work = 0
        self._headers: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None
        self._is_ours = False

    def begins(self) -> None:
        """Note that the headers of a request are complete."""
        self._in_work += 1
        _stop(self._headers)
        self._headers = None
        if self._transport is not None:
            self._connections.idle(self._transport, is_idle=False)

    def ends(self) -> None:
        """Note that a request was handled."""
        self._in_work -= 1
        if self._transport is not None and not self._in_work:
            self._connections.idle(self._transport, is_idle=True)

    def abort(self) -> None:
        """Close the connection now."""
        if self._transport is not None:
            self._connections.leave(self._transport, self._key)
            self._transport.abort()

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or refuse it."""
        # Not an isinstance check: uvloop's transport does not inherit it.
        opened = cast("asyncio.Transport", transport)
        peer = opened.get_extra_info("peername")
        self._key = self._connections.key(peer[0] if peer else "")
        if not self._connections.enter(opened, self, self._key):
            opened.abort()
            return
        self._is_ours, self._transport = True, opened
        self._expect_headers()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; those of a new request have to come to an end."""
        if not self._is_ours:
            return
        if not self._in_work and self._headers is None:
            self._expect_headers()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on the end."""
        return self._inner.eof_received() if self._is_ours else None

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        loop = asyncio.get_running_loop()
        _stop(self._reader)
        self._reader = loop.call_later(self._connections.reads_within_s, self._cut)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Note that it reads."""
        _stop(self._reader)
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if not self._is_ours:
            return
        _stop(self._headers)
        _stop(self._reader)
        if self._transport is not None:
            self._connections.leave(self._transport, self._key)
        self._inner.connection_lost(exc)

    def _expect_headers(self) -> None:
        loop = asyncio.get_running_loop()
        self._headers = loop.call_later(self._connections.headers_within_s, self._cut)

    def _cut(self) -> None:
        self._connections.counters.cut += 1
        self.abort()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def limited_runner(app: web.Application, *, grace_s: float, cancels: bool) -> web.AppRunner:
    """Return a runner that takes requests of bounded size; at the end it waits `grace_s` for those in work.

    With `cancels`, a handler ends when its client goes away.
    """
    return web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=grace_s,
        keepalive_timeout=KEEP_ALIVE_S,
        max_line_size=MAX_LINE,
        max_field_size=MAX_FIELD,
        max_headers=MAX_FIELDS,
        handler_cancellation=cancels,
    )


class GuardedSite(web.BaseSite):
    """Where a runner's application listens, with guarded connections; port 0 for one that the system chooses."""

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, connections: Connections
    ) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._where = (host, port)
        self._connections = connections
        self._others: list[asyncio.Server] = []

    @property
    def name(self) -> str:
        """Return the URL, for aiohttp."""
        return "http://{}:{}".format(*self._where)

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await super().start()
        inner = self._runner.server
        if inner is None:
            raise RuntimeError("the runner is not set up")

        def guarded() -> _Guard:
            return _Guard(inner(), self._connections)

        loop = asyncio.get_running_loop()
        self._server = first = await loop.create_server(guarded, *self._where, backlog=BACKLOG)
        for sock in list(first.sockets):
            for _ in range(ACCEPTED_AT_ONCE - 1):
                again = await loop.create_server(guarded, sock=sock.dup(), backlog=BACKLOG)
                self._others.append(again)

    async def stop(self) -> None:
        """Listen no more."""
        for server in self._others:
            server.close()
        await super().stop()
