"""The number of metric series stays what it is, whatever is sent to the doors of both processes."""

import re
import secrets
import socket
from pathlib import Path
from random import Random
from urllib.parse import quote

import aiohttp
import pytest

from tests.api.fake_relay import relays
from tests.api.harness import Api, running, settings
from tests.fakes.junk import LARGEST
from tests.fakes.relay_process import RelayProcess, relay_process

ROUNDS = 60
MAX_SERIES = 150
"""Of one process: a few dozen metrics, and a histogram."""

LABEL_VALUE = re.compile(r"[a-z0-9_.+-]{1,40}|\+Inf")

METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "PROPFIND")


def hostile(dice: Random) -> str:
    """Return a name that somebody might wish to see in a label."""
    return dice.choice(
        [
            secrets.token_hex(8),
            f"mars-{dice.randrange(10**6)}",
            "x" * dice.randrange(1, 200),
            '"} 1\nthalweg_fake{a="',
            "../../metrics",
            "\N{SNOWMAN}" * 5,
        ]
    )


def series(text: str) -> set[str]:
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if line[:1] not in ("", "#")}


def assert_bounded(before: str, after: str, mayappear: str) -> None:
    first, last = series(before), series(after)
    assert len(last) < MAX_SERIES
    new = {one for one in last - first if not re.match(mayappear, one)}
    assert new == set()
    for one in last:
        for value in re.findall(r'="([^"]*)"', one):
            assert LABEL_VALUE.fullmatch(value), one


async def ask_anything(http: aiohttp.ClientSession, url: str, dice: Random, door: str) -> None:
    headers = {
        "User-Agent": quote(hostile(dice)),
        "X-Request-Id": quote(hostile(dice)),
        "X-Forwarded-For": quote(hostile(dice)),
        "Authorization": f"Bearer {quote(hostile(dice))}",
    }
    path = door.format(*(quote(hostile(dice), safe="") for _ in range(3)))
    async with http.request(
        dice.choice(METHODS), url + path, data=hostile(dice).encode(), headers=headers
    ) as answer:
        await answer.read()


async def test_of_the_control_plane(tls_dir: Path) -> None:
    dice = Random(1)  # noqa: S311 - a seed, so that a failure comes again
    async with running(settings(tls_dir, tenant_rate=10_000)) as api, relays(api, "eu-frankfurt"):
        await api.join("r", "ana")
        before = (await api.call("GET", "/metrics")).text
        for number in range(ROUNDS):
            await _join_oddly(api, dice, number)
            for door in ("/v1/rooms/{}/participants/{}", "/v1/nodes/{}", "/{}/{}", "/v1/rooms?{}"):
                await ask_anything(api.session, api.url, dice, door)
        after = (await api.call("GET", "/metrics")).text
    # A code of ours may come up for the first time; there are as many as the code has.
    assert_bounded(before, after, r'thalweg_joins_(total|created)\{result="[a-z-]+"\}')


async def _join_oddly(api: Api, dice: Random, number: int) -> None:
    probes = [{"region": f"mars-{number}", "rtt_ms": [1.0]}]
    await api.join(f"room-{number}", secrets.token_hex(6), probes=probes)
    await api.join(f"room-{number}", "p", require={"residency": [hostile(dice)[:60]]})
    await api.join(f"room-{number}", "p", require={"regions": [f"region-{number}"]})
    await api.join(f"room-{number}", "p", role=hostile(dice))
    await api.join(f"room-{number}", "p", exclude_nodes=["eu-frankfurt-1"])


@pytest.mark.e2e
async def test_of_a_node(tmp_path: Path) -> None:
    dice = Random(2)  # noqa: S311 - a seed, so that a failure comes again
    async with relay_process(tmp_path) as relay, aiohttp.ClientSession() as http:
        before = await _metrics(http, relay)
        for _ in range(ROUNDS):
            for door in ("/whip/{}/{}", "/whep/{}/{}?participant={}", "/sessions/{}", "/{}"):
                await ask_anything(http, relay.url, dice, door)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in relay.udp_ports():
                for _ in range(1000):
                    sender.sendto(dice.randbytes(dice.randrange(LARGEST)), ("127.0.0.1", port))
        after = await _metrics(http, relay)
    assert_bounded(before, after, "(?!)")


async def _metrics(http: aiohttp.ClientSession, relay: RelayProcess) -> str:
    async with http.get(f"{relay.url}/metrics") as answer:
        assert answer.status == 200
        return await answer.text()
