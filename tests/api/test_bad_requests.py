"""Every bad request is a problem document with a stable code, and leaves nothing behind."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.api.http import routing
from tests.api.fake_relay import relays
from tests.api.harness import AUTHORIZED, Api

PATH = "/v1/rooms/r/participants/ana"
LONG = "x" * 129
JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}

BAD_BODIES: list[tuple[bytes, str]] = [
    (b"", "json-malformed"),
    (b"{", "json-malformed"),
    (b"\xff\xfe", "json-malformed"),
    (b"[" * 5000, "json-malformed"),
    (b"null", "body-invalid"),
    (b"[]", "body-invalid"),
    (b"{}", "body-invalid"),
    (b'{"session": 1}', "body-invalid"),
    (b'{"session": ""}', "body-invalid"),
    (b'{"session": "a b"}', "body-invalid"),
    (json.dumps({"session": LONG}).encode(), "body-invalid"),
    (b'{"session": "s", "sesion": "s"}', "body-invalid"),
    (b'{"session": "s", "client_ip": "nowhere"}', "body-invalid"),
    (b'{"session": "s", "client_ip": 1}', "body-invalid"),
    (b'{"session": "s", "role": "admin"}', "body-invalid"),
    (b'{"session": "s", "probes": [{"region": "eu-a", "rtt_ms": []}]}', "body-invalid"),
    (b'{"session": "s", "probes": [{"region": "eu-a", "rtt_ms": [-1]}]}', "body-invalid"),
    (b'{"session": "s", "probes": [{"region": "eu-a", "rtt_ms": [NaN]}]}', "body-invalid"),
    (b'{"session": "s", "probes": [{"region": "eu-a", "rtt_ms": ["9"]}]}', "body-invalid"),
    (b'{"session": "s", "probes": [{"region": "EU", "rtt_ms": [9]}]}', "body-invalid"),
    (b'{"session": "s", "require": {"region": ["eu-a"]}}', "body-invalid"),
    (b'{"session": "s", "require": {"regions": ["nowhere"]}}', "unknown-region"),
    (b'{"session": "s", "exclude_nodes": ["A"]}', "body-invalid"),
]


async def test_bad_bodies_create_nothing(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        before = (await api.call("GET", "/metrics")).text
        for body, code in BAD_BODIES:
            refused = await api.call("PUT", PATH, data=body, headers=JSON)
            problem = refused.problem(400, code)
            if code != "unknown-region":
                assert problem["errors"], body
                assert problem["hint"]
        assert (await api.call("GET", "/v1/rooms")).json == {"rooms": [], "next": None}
        after = (await api.call("GET", "/metrics")).text
        for line in ("thalweg_events", "thalweg_participants"):
            assert value(after, line) == value(before, line)


def value(metrics: str, name: str) -> str:
    return next(line for line in metrics.splitlines() if line.startswith(f"{name} "))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", f"/v1/rooms/{LONG}/participants/ana", 400, "bad-room-id"),
        ("PUT", "/v1/rooms/a%20b/participants/ana", 400, "bad-room-id"),
        ("PUT", "/v1/rooms/a%2Fb/participants/ana", 400, "bad-room-id"),
        ("PUT", f"/v1/rooms/r/participants/{LONG}", 400, "bad-participant-id"),
        ("PUT", "/v1/rooms/r/participants/%F0%9F%90%9F", 400, "bad-participant-id"),
        ("GET", "/v1/rooms/%00", 400, "bad-room-id"),
        ("GET", "/v1/nodes/UPPER", 400, "bad-node-id"),
        ("GET", f"/v1/nodes/{'n' * 64}", 400, "bad-node-id"),
        ("GET", "/v1/rooms?limit=0", 400, "query-invalid"),
        ("GET", "/v1/rooms?limit=x", 400, "query-invalid"),
        ("GET", "/v1/rooms?limit=1&limit=2", 400, "query-invalid"),
        ("GET", "/v1/rooms?after=a%20b", 400, "query-invalid"),
        ("GET", "/v1/rooms?page=2", 400, "query-invalid"),
        ("GET", "/v1/events?after=-1", 400, "query-invalid"),
        ("GET", "/", 404, "path-unknown"),
        ("GET", "/v2/rooms", 404, "path-unknown"),
        ("GET", "/v1/rooms/", 404, "path-unknown"),
        ("GET", "/v1/rooms/r/participants/ana/decision/x", 404, "path-unknown"),
    ],
)
async def test_bad_paths_and_queries(
    api: Api, method: str, path: str, status: int, code: str
) -> None:
    body = {"session": "s"} if method == "PUT" else None
    (await api.call(method, path, body)).problem(status, code)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", PATH, "DELETE, GET, HEAD, PUT"),
        ("PATCH", "/v1/nodes/n/drain", "DELETE, PUT"),
        ("GET", "/v1/probe-plans", "POST"),
        ("DELETE", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    api: Api, method: str, path: str, allowed: str
) -> None:
    refused = await api.call(method, path)
    refused.problem(405, "method-not-allowed")
    assert refused.headers["Allow"] == allowed


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_another_content_type_is_415(api: Api, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    for path in (PATH, "/v1/topology"):
        refused = await api.call("PUT", path, data=b'{"session": "s"}', headers=headers)
        refused.problem(415, "content-type-unsupported")


async def test_an_encoded_body_is_415(api: Api) -> None:
    for path, headers in ((PATH, JSON), ("/v1/topology", YAML)):
        sent = headers | {"Content-Encoding": "gzip"}
        refused = await api.call("PUT", path, data=b"no gzip", headers=sent)
        refused.problem(415, "content-encoding-unsupported")


async def test_who_leaves_amid_a_body_is_no_fault_of_ours(api: Api) -> None:
    head = (
        f"PUT {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    )
    with capture_logs() as logs:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.ports.http)
        writer.write(f"{head}Authorization: {AUTHORIZED['Authorization']}\r\n\r\n{{".encode())
        await asyncio.sleep(0.1)
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        await asyncio.sleep(0.1)
    assert logs == []


async def test_a_large_body_is_413_announced_or_not(api: Api) -> None:
    large = b" " * (64 * 1024 + 1)
    (await api.call("PUT", PATH, data=large, headers=JSON)).problem(413, "body-too-large")
    (await api.call("PUT", "/v1/topology", data=large, headers=YAML)).problem(413, "body-too-large")

    async def chunks() -> Any:
        for _ in range(65):
            yield b" " * 1024

    async with api.session.put(
        api.url + PATH, data=chunks(), headers=JSON | {"Authorization": "Bearer a-key-for-tests"}
    ) as answer:
        assert answer.status == 413
        assert (await answer.json(content_type=None))["code"] == "body-too-large"


@pytest.mark.parametrize(
    ("authorization", "code", "challenge"),
    [
        (None, "api-key-missing", 'Bearer realm="thalweg"'),
        ("", "api-key-missing", 'Bearer realm="thalweg"'),
        ("Basic YTpi", "api-key-missing", 'Bearer realm="thalweg"'),
        ("Bearer", "api-key-missing", 'Bearer realm="thalweg"'),
        ("Bearer wrong", "api-key-unknown", 'Bearer realm="thalweg", error="invalid_token"'),
    ],
)
async def test_without_a_key_there_is_nothing(
    api: Api, authorization: str | None, code: str, challenge: str
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, path in (
        ("PUT", PATH),
        ("GET", PATH),
        ("DELETE", PATH),
        ("GET", "/v1/rooms"),
        ("GET", "/v1/nodes"),
        ("GET", "/v1/events"),
        ("GET", "/v1/topology"),
        ("POST", "/v1/probe-plans"),
        ("GET", "/metrics"),
    ):
        refused = await api.call(method, path, headers=headers, key=None)
        refused.problem(401, code)
        assert refused.headers["WWW-Authenticate"] == challenge


async def test_a_request_that_is_not_http_does_not_hurt(api: Api) -> None:
    for noise in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 5000):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.ports.http)
        writer.write(noise)
        writer.write_eof()
        await reader.read(1000)
        writer.close()
        await writer.wait_closed()
    assert (await api.call("GET", "/healthz")).json == {"status": "ok"}


async def test_a_body_that_never_comes_keeps_no_place(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "BODY_TIMEOUT_S", 0.1)

    async def drop_by_drop() -> Any:
        yield b"{"
        await asyncio.sleep(5)

    async with asyncio.timeout(3):
        async with api.session.put(
            api.url + PATH, data=drop_by_drop(), headers=JSON | AUTHORIZED
        ) as answer:
            assert answer.status == 408
            assert (await answer.json(content_type=None))["code"] == "body-too-slow"


async def test_every_look_can_be_a_head(api: Api) -> None:
    for path in ("/healthz", "/v1/rooms", "/v1/nodes", "/v1/topology", "/docs", "/openapi.json"):
        answer = await api.call("HEAD", path)
        assert (answer.status, answer.text) == (200, ""), path
        assert int(answer.headers["Content-Length"]) > 0
    assert (await api.call("HEAD", PATH)).status == 404
    assert (await api.call("HEAD", "/v1/rooms", key=None)).status == 401
    stream = await api.call("HEAD", "/v1/events")
    assert (stream.status, stream.headers["Allow"]) == (405, "GET")
