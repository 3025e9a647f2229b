"""A load generator for HTTP/1.1: ready requests on connections that are kept, at a rate or as fast as can be.

It costs some tens of microseconds a request, so it wants a core of its own.
"""

import asyncio
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

CONNECTIONS = 32
"""As a few signalling servers have."""


@dataclass
class Answers:
    """What came back."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    waits_ms: list[float] = field(default_factory=list)
    """From when each request was due until its answer was there."""

    @property
    def good(self) -> int:
        return self.statuses[200] + self.statuses[201]

    @property
    def per_s(self) -> float:
        return self.good / self.seconds

    @property
    def refused(self) -> float:
        """Share of the answers that were no 200 and no 201."""
        return 1 - self.good / max(1, self.statuses.total())

    def spread(self) -> str:
        cuts = statistics.quantiles(self.waits_ms, n=100)
        return f"p50 {statistics.median(self.waits_ms):.1f} ms, p99 {cuts[98]:.1f} ms"


def put(path: str, body: str, key: str) -> bytes:
    """Return a PUT with a JSON body."""
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class says it less

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, length = head.lower().partition(b"content-length: ")
        if len(body) >= int(length.split(b"\r\n", 1)[0]):
            self._received = b""
            self._load.answered(self, int(head[9:12]), self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(exc)

    def close(self) -> None:
        self._transport.abort()


class _Load:
    def __init__(self, requests: Iterator[bytes], *, ends_at: float, is_paced: bool) -> None:
        self.answers = Answers()
        self.idle: deque[_Connection] = deque()
        self.late: deque[float] = deque()
        """When requests were due that found no connection idle."""
        self.is_over = False
        self._requests, self._ends_at, self._is_paced = requests, ends_at, is_paced
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask(self, due: float) -> None:
        """Send the next request, now or when a connection is idle."""
        if self.idle:
            self._send(self.idle.popleft(), due)
        else:
            self.late.append(due)

    def answered(self, connection: _Connection, status: int, due: float) -> None:
        now = time.perf_counter()
        if now < self._ends_at:
            self.answers.statuses[status] += 1
            self.answers.waits_ms.append((now - due) * 1000)
        if self.is_over or now >= self._ends_at:
            return
        if not self._is_paced:
            self._send(connection, now)
        elif self.late:
            self._send(connection, self.late.popleft())
        else:
            self.idle.append(connection)

    def lost(self, error: Exception | None) -> None:
        if not self.is_over and not self.failed.done():
            self.failed.set_exception(error or ConnectionError("the server closed a connection"))

    def _send(self, connection: _Connection, due: float) -> None:
        request = next(self._requests, None)
        if request is not None:
            connection.send(request, due)


async def drive(
    port: int, requests: Iterator[bytes], *, seconds: float, rate: float | None = None
) -> Answers:
    """Send requests for some seconds: `rate` a second, or as fast as answers come. Raises OSError."""
    begun = time.perf_counter()
    load = _Load(requests, ends_at=begun + seconds, is_paced=rate is not None)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    load.idle.extend(connections)
    try:
        if rate is None:
            for _ in range(CONNECTIONS):
                load.ask(time.perf_counter())
            await asyncio.wait([load.failed], timeout=begun + seconds - time.perf_counter())
        else:
            for number in range(int(rate * seconds)):
                due = begun + number / rate
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                load.ask(due)
        if load.failed.done():
            load.failed.result()
    finally:
        load.is_over = True
        load.failed.cancel()
        for connection in connections:
            connection.close()
    load.answers.seconds = min(seconds, time.perf_counter() - begun)
    return load.answers
