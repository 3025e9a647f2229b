"""examples/signalling_server.py, started as its users start it."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.harness import Up
from tests.fakes.control_plane import API_KEY, FakeControlPlane, fake_nodes
from tests.fakes.waiting import eventually

pytestmark = pytest.mark.e2e
EXAMPLE = Path(__file__).parents[2] / "examples" / "signalling_server.py"
ANA = {"X-User": "ana"}
JOIN = {"session": "s1", "probes": [{"region": "ap-singapore", "rtt_ms": [7.5]}]}


@contextlib.asynccontextmanager
async def example(thalweg_url: str, api_key: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Run the example against a control plane; give a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "THALWEG_URL": thalweg_url,
        "THALWEG_API_KEY": api_key,
        "PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLE, env=environment, stdout=asyncio.subprocess.DEVNULL
    )

    async def why_not_ready() -> str | None:
        assert process.returncode is None, "the example ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            return str(error)
        writer.close()
        await writer.wait_closed()
        return None

    try:
        await eventually(why_not_ready, timeout=15)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def next_event(stream: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
    """Read one event of a stream: (type, data)."""
    kind = ""
    async with asyncio.timeout(10):
        while True:
            line = (await stream.content.readline()).decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return kind, json.loads(line.removeprefix("data: "))


def test_the_example_is_short_enough_to_copy() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40


async def test_the_example_says_only_what_a_client_may_decide() -> None:
    async with (
        FakeControlPlane(fake_nodes()) as control_plane,
        example(control_plane.url, API_KEY) as client,
    ):
        body = JOIN | {"client_ip": "203.0.113.9", "role": "viewer", "require": {"regions": []}}
        async with client.put("/rooms/standup/me", json=body, headers=ANA) as answer:
            assert answer.status == 201
            text = await answer.text()
        assert json.loads(text)["node"]["region"] == "ap-singapore"
        assert API_KEY not in text
        assert control_plane.joins == [JOIN | {"client_ip": "127.0.0.1"}]
        for room in ("..", "a%2Fb", "a/b", ""):
            async with client.put(f"/rooms/{room}/me", json=JOIN, headers=ANA) as answer:
                assert answer.status == 404
        assert len(control_plane.joins) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-User": ""}, 401),
        ({"X-User": ".."}, 400),
        ({"X-User": "."}, 400),
        ({"X-User": "../../other/participants/victim"}, 400),
        ({"X-User": "../../../nodes/eu-frankfurt-1/drain"}, 400),
        ({"X-User": "..%2F..%2Fother%2Fparticipants%2Fvictim"}, 400),
        ({"X-User": "ana?role=viewer"}, 400),
        ({"X-User": "ana#x"}, 400),
    ],
)
async def test_no_user_name_reaches_beyond_its_own_seat(
    headers: dict[str, str], status: int
) -> None:
    async with (
        FakeControlPlane(fake_nodes()) as control_plane,
        example(control_plane.url, API_KEY) as client,
    ):
        seats: dict[str, dict[str, Any]] = {"victim": {}, "ana": {}}
        control_plane.rooms["other"] = dict(seats)
        control_plane.rooms["standup"] = dict(seats)
        async with client.put("/rooms/standup/me", json=JOIN, headers=headers) as answer:
            assert answer.status == status
        async with client.delete("/rooms/standup/me", headers=headers) as answer:
            assert answer.status == status
        assert control_plane.joins == []
        assert control_plane.rooms == {"other": seats, "standup": seats}


async def test_the_example_joins_follows_and_leaves_a_real_system(system: Up) -> None:
    async with (
        example(system.facts["http_url"], system.facts["api_key"]) as client,
        client.get("/rooms/standup/events") as stream,
    ):
        async with client.put("/rooms/standup/me", json=JOIN, headers=ANA) as answer:
            assert answer.status == 201
            first = await answer.json()
        async with client.put("/rooms/standup/me", json=JOIN, headers=ANA) as answer:
            assert answer.status == 200
            assert (await answer.json())["epoch"] == first["epoch"]
        assert first["node"]["region"] == "ap-singapore"
        kind, data = await next_event(stream)
        assert (kind, data["participant"]) == ("participant.assigned", "ana")
        async with client.delete("/rooms/standup/me", headers=ANA) as answer:
            assert answer.status == 204
        while kind != "participant.ended":
            kind, data = await next_event(stream)
        assert data["participant"] == "ana"
