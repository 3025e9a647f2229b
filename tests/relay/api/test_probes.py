"""GET /probe: small, and so many for each address; X-Forwarded-For counts from trusted proxies alone."""

import asyncio
import ipaddress
from collections.abc import Sequence

import aiohttp
import pytest

from guard.addresses import IpNetwork
from tests.relay.api.asking import assert_problem
from tests.relay.rtc import RunningNode, running_node

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]

CHROMIUM = (
    b"GET /probe?r=0 HTTP/1.1\r\nHost: a.de\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua-platform: "Linux"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 '
    b"(KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nAccept: */*\r\nOrigin: https://a.de\r\n"
    b"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en\r\n\r\n"
)
"""What a browser cannot help sending, with the shortest of names."""


@pytest.fixture(autouse=True)
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.api.probes.PROBES_PER_S", 0.001)
    monkeypatch.setattr("relay.api.probes.PROBE_BURST", 3)


async def probe(http: aiohttp.ClientSession, *forwarded: str) -> int:
    headers = [("X-Forwarded-For", line) for line in forwarded]
    async with http.get("/probe", headers=headers) as answer:
        if answer.status == 429:
            await assert_problem(answer, 429, "too_many_probes")
            assert answer.headers["Retry-After"] == "1"
        return answer.status


async def test_an_address_has_so_many_probes_whatever_it_forges(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    forged = ["192.0.2.1", "192.0.2.2, 127.0.0.1", "::1", "junk", ""]
    assert [await probe(http, line) for line in forged] == [204] * 3 + [429] * 2
    assert (node.probes.answered, node.probes.limited) == (3, 2)


@pytest.mark.parametrize("trusted", [[], LOOPBACK], ids=["no proxy", "a trusted proxy"])
async def test_clients_behind_a_trusted_proxy_are_told_apart(trusted: Sequence[IpNetwork]) -> None:
    async with (
        running_node(trusted_proxies=trusted) as node,
        aiohttp.ClientSession(node.url) as http,
    ):
        spent = [await probe(http, "192.0.2.66", "192.0.2.1") for _ in range(4)]
        another = await probe(http, "192.0.2.66", "192.0.2.2")
    assert spent == [204] * 3 + [429]
    assert another == (204 if trusted else 429)


async def test_other_doors_stay_open_to_one_who_asks_too_often(
    http: aiohttp.ClientSession,
) -> None:
    assert [await probe(http) for _ in range(5)][-1] == 429
    async with http.get("/healthz") as answer:
        assert answer.status == 200


async def test_a_proxy_that_is_limited_as_one_client_is_named_once(
    http: aiohttp.ClientSession, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(10):
        await probe(http, "192.0.2.1")
    written = "".join(capfd.readouterr())
    assert written.count("--trusted-proxy") == 1


async def test_an_answer_is_smaller_than_any_browsers_request(node: RunningNode) -> None:
    host, port = node.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(CHROMIUM)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Server:" not in answer
    assert len(answer) <= 150
    assert len(answer) < len(CHROMIUM) / 2
