"""Both HTTP doors meet damaged requests, byte for byte: a refusal or an end, never a fault of ours."""

import asyncio
import contextlib
import json
import re
from pathlib import Path
from random import Random

import pytest

from tests.api.fake_relay import relays
from tests.api.harness import KEY, running, settings
from tests.relay.api.offers import PUBLISH
from tests.relay.rtc import running_node

REQUESTS = 240
AT_ONCE = 20
PATIENCE_S = 0.5
STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3}) ", re.MULTILINE)
PIECES = (
    b"\r\n",
    b"\0",
    b": ",
    b"\xff\xfe",
    b"%00",
    b"%2F..%2F",
    b"-1",
    b"9" * 30,
    b"Transfer-Encoding: chunked\r\n",
)


def request(method: str, path: str, body: bytes, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def damaged(dice: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(changed))
        match dice.randrange(4):
            case 0:
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                del changed[at : at + dice.randrange(1, 30)]
            case 2:
                changed[at:at] = dice.choice(PIECES)
            case _:
                changed[at:at] = changed[at : at + dice.randrange(1, 60)]
    return bytes(changed)


async def ask(port: int, data: bytes) -> list[int]:
    """Return the statuses of what came back; a request that the damage left incomplete gets nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = b""
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            while chunk := await reader.read(65536):
                came += chunk
    except (ConnectionResetError, BrokenPipeError, TimeoutError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await writer.wait_closed()
    return [int(status) for status in STATUS.findall(came)]


async def ask_many(port: int, requests: list[bytes], seed: int) -> set[int]:
    dice, seen = Random(seed), set[int]()  # noqa: S311 - a seed, so that a failure comes again
    for valid in requests:
        assert (await ask(port, valid))[0] < 300, valid
    for _ in range(REQUESTS // AT_ONCE):
        batch = [damaged(dice, dice.choice(requests)) for _ in range(AT_ONCE)]
        for data, statuses in zip(
            batch, await asyncio.gather(*(ask(port, data) for data in batch)), strict=True
        ):
            assert all(status < 500 or status in (501, 505) for status in statuses), data
            seen |= set(statuses)
    return seen


async def test_at_the_control_plane(tls_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    join = {"session": "s", "client_ip": "192.0.2.1", "probes": [{"region": "a", "rtt_ms": [1]}]}
    json_type = {"Authorization": f"Bearer {KEY}", "Content_Type": "application/json"}
    async with running(settings(tls_dir)) as api, relays(api, "eu-frankfurt"):
        port = api.ports.http
        requests = [
            request("PUT", "/v1/rooms/r/participants/p", json.dumps(join).encode(), **json_type),
            request("POST", "/v1/probe-plans", b'{"client_ip": "192.0.2.1"}', **json_type),
            request("GET", "/v1/rooms?limit=10&after=a", b"", **json_type),
        ]
        seen = await ask_many(port, requests, 1)
        assert {200, 400, 401, 404} <= seen
    assert [one for one in caplog.records if one.name != "aiohttp.server"] == []


async def test_at_a_node(caplog: pytest.LogCaptureFixture) -> None:
    async with running_node() as node:
        port = int(node.url.rpartition(":")[2])
        token = {"Authorization": f"Bearer {node.signer.token('ana')}"}
        begun = await ask(
            port,
            request(
                "POST", "/whip/r/ana", PUBLISH.encode(), Content_Type="application/sdp", **token
            ),
        )
        assert begun == [201]
        fresh = {"Authorization": f"Bearer {node.signer.token('ana')}"}
        session = next(iter(node.engine._sessions))
        patch = b"a=ice-ufrag:x\r\nm=audio 9 RTP/AVP 0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
        requests = [
            request(
                "PATCH", f"/sessions/{session}", patch,
                Content_Type="application/trickle-ice-sdpfrag", **fresh,
            ),
            request("GET", "/probe", b"", X_Forwarded_For="192.0.2.1, 10.0.0.1"),
        ]  # fmt: skip
        assert {204, 400, 401} <= await ask_many(port, requests, 2)
        offer = request("POST", "/whep/r/bob", PUBLISH.encode(), Content_Type="application/sdp")
        await ask(port, offer)
    assert [one for one in caplog.records if one.name != "aiohttp.server"] == []
