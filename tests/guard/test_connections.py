"""What a connection may hold, at the control plane's door and at a node's: raw sockets that behave badly."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from types import ModuleType

import pytest
from aiohttp import web

from controlplane.api import limits as controlplane_limits
from controlplane.core.addresses import parse_network
from guard.connections import GuardedSite
from relay.api import limits as relay_limits
from tests.fakes.waiting import eventually

HOST = "127.0.0.1"
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SOON_S = 0.3
LARGE = 16 * 1024 * 1024

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Door:
    """A small application behind guarded connections."""

    def __init__(self, limits: ModuleType, **settings: object) -> None:
        self.connections = limits.limited_connections(
            **{"headers_within_s": SOON_S, "reads_within_s": SOON_S, **settings}
        )
        self._limits = limits
        self.port = 0
        self.streams: list[Stream] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Door"]:
        app = web.Application(middlewares=[self.connections.middleware])
        app.add_routes([web.get("/", self._small), web.get("/large", self._large)])
        app.add_routes([web.get("/slow", self._slow)])
        runner = self._limits.limited_runner(app, grace_s=0.1)
        await runner.setup()
        await GuardedSite(runner, HOST, 0, self.connections).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            for _, writer in self.streams:
                writer.close()
            await runner.cleanup()

    async def connect(self, source: str = HOST) -> Stream:
        stream = await asyncio.open_connection(HOST, self.port, local_addr=(source, 0))
        self.streams.append(stream)
        return stream

    async def _small(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    async def _slow(self, _: web.Request) -> web.Response:
        await asyncio.sleep(3 * SOON_S)
        return web.Response(text="ok")


@pytest.fixture(params=[controlplane_limits, relay_limits], ids=["controlplane", "relay"])
def limits(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


async def ended(reader: asyncio.StreamReader, within_s: float = 3.0) -> bytes:
    """Return what came until the other end closed."""
    came = b""
    async with asyncio.timeout(within_s):
        with contextlib.suppress(ConnectionResetError):
            while chunk := await reader.read(65536):
                came += chunk
    return came


async def test_headers_that_come_drop_by_drop_are_cut(limits: ModuleType) -> None:
    async with Door(limits).open() as door:
        reader, writer = await door.connect()
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 100:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
                if reader.at_eof() or reader.exception():
                    break
        assert await ended(reader) == b""
        assert time.monotonic() - began < SOON_S + 1.5
        assert door.connections.counters.cut == 1
        assert len(door.connections) == 0


async def test_a_connection_that_says_nothing_is_cut(limits: ModuleType) -> None:
    async with Door(limits).open() as door:
        reader, _ = await door.connect()
        assert await ended(reader) == b""
        assert door.connections.counters.cut == 1


async def test_who_asks_again_later_is_welcome_and_slow_again_is_cut(limits: ModuleType) -> None:
    async with Door(limits).open() as door:
        reader, writer = await door.connect()
        for _ in range(3):
            writer.write(ASK)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(SOON_S + 0.1)  # idle: the keep-alive's business
        writer.write(ASK[:10])
        assert await ended(reader) == b""


async def test_a_long_answer_is_not_cut_whatever_is_sent_meanwhile(limits: ModuleType) -> None:
    async with Door(limits).open() as door:
        reader, writer = await door.connect()
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + ASK[:10])
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")


async def test_who_does_not_read_is_cut(limits: ModuleType) -> None:
    async with Door(limits).open() as door:
        _, writer = await door.connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: None if door.connections.counters.cut else "not cut")
        assert len(door.connections) == 0


async def test_who_reads_gets_all_of_it(limits: ModuleType) -> None:
    async with Door(limits).open() as door:
        reader, writer = await door.connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert len(await ended(reader, 10)) > LARGE


@pytest.mark.parametrize(
    "junk",
    [
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 1000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\0" * 1000,
    ],
    ids=["line", "header", "headers", "TLS", "zeros"],
)
async def test_too_large_and_not_http_is_refused(limits: ModuleType, junk: bytes) -> None:
    async with Door(limits).open() as door:
        reader, writer = await door.connect()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            writer.write(junk)
            await writer.drain()
        came = await ended(reader)
        assert not came or came.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4")), came[:100]


async def test_pipelined_junk_gets_one_refusal(limits: ModuleType) -> None:
    async with Door(limits).open() as door:
        reader, writer = await door.connect()
        writer.write(ASK + b"\x00\xffnonsense\r\n\r\n" * 500)
        came = await ended(reader)
        assert came.startswith(b"HTTP/1.0 400")
        assert came.count(b"HTTP/1.") == 1


async def test_one_address_has_a_bounded_number_and_a_proxy_any(limits: ModuleType) -> None:
    trusted = (parse_network("127.0.0.9/32"),)
    async with Door(limits, per_address=5, trusted=trusted, headers_within_s=5.0).open() as door:
        streams = [await door.connect("127.0.0.2") for _ in range(8)]
        others = [await door.connect("127.0.0.9") for _ in range(8)]
        others.append(await door.connect("127.0.0.3"))
        for reader, _ in streams[5:]:
            assert await ended(reader) == b""
        for reader, writer in (*streams[:5], *others):
            writer.write(ASK)
            assert await reader.readuntil(b"ok")
        assert door.connections.counters.refused == 3


async def test_thousands_of_idle_connections_leave_room_for_who_asks(limits: ModuleType) -> None:
    most = 200
    async with Door(limits, most=most, per_address=10_000, headers_within_s=30.0).open() as door:
        for number in range(1500):
            await door.connect(f"127.0.{number % 200}.1")
            assert len(door.connections) <= most
        reader, writer = await door.connect()
        writer.write(ASK)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        assert door.connections.counters.evicted > 1000
        assert door.connections.counters.refused == 0
    assert len(door.connections._addresses) == 0


async def test_with_every_place_at_work_a_new_connection_is_refused(limits: ModuleType) -> None:
    async with Door(limits, most=2).open() as door:
        busy = [await door.connect() for _ in range(2)]
        for _, writer in busy:
            writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        reader, _ = await door.connect()
        assert await ended(reader) == b""
        assert door.connections.counters.refused == 1
        for reader, _ in busy:
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
