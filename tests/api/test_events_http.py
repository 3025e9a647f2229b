"""/v1/events: nothing missed, nothing twice, nothing kept open."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane.api.http import events
from tests.api.fake_relay import relays
from tests.api.harness import AUTHORIZED, KEY, Api, running, settings
from tests.api.who import callers
from tests.fakes.waiting import eventually


class Reader:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def block(self) -> dict[str, str]:
        """Return the fields of the next block, comments under the name ""."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(5):
            while True:
                line = (await self.answer.content.readline()).decode()
                if not line.endswith("\n"):
                    raise EOFError
                if line == "\n":
                    return fields
                name, _, text = line.rstrip("\n").partition(":")
                fields[name] = text.strip()

    async def event(self) -> tuple[int, str, dict[str, Any]]:
        while True:
            fields = await self.block()
            if "event" in fields:
                return int(fields["id"]), fields["event"], json.loads(fields["data"])


@asynccontextmanager
async def stream(
    api: Api, query: str = "", last: str | None = None, *, key: str = KEY
) -> AsyncIterator[Reader]:
    headers = {"Authorization": f"Bearer {key}"} | ({} if last is None else {"Last-Event-ID": last})
    async with api.session.get(f"{api.url}/v1/events{query}", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        reader = Reader(answer)
        assert await reader.block() == {"retry": "1000"}
        yield reader


async def test_a_reader_resumes_where_it_was(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        async with stream(api) as reader:
            await api.join("r", "ana")
            first, kind, data = await reader.event()
            assert (kind, data["room"], data["node"]) == (
                "participant.assigned",
                "r",
                "eu-frankfurt-1",
            )
            assert data["because"]
        await api.join("r", "bo")
        await api.call("DELETE", "/v1/rooms/r/participants/ana")
        async with stream(api, last=str(first)) as reader:
            seen = [await reader.event(), await reader.event()]
            assert [(id_, kind) for id_, kind, _ in seen] == [
                (first + 1, "participant.assigned"),
                (first + 2, "participant.ended"),
            ]
        async with stream(api, f"?after={first + 1}") as reader:
            assert (await reader.event())[0] == first + 2


async def test_a_room_has_its_own_stream(api: Api) -> None:
    async with relays(api, "eu-frankfurt"), stream(api, "?room=wanted&after=0") as reader:
        await api.join("other", "ana")
        await api.join("wanted", "bo")
        assert (await reader.event())[1] == "stream.reset"
        _, kind, data = await reader.event()
        assert (kind, data["participant"]) == ("participant.assigned", "bo")


@pytest.mark.parametrize("last", ["1", "3", "987654321", "9" * 18])
async def test_an_id_from_another_life_gives_a_reset(api: Api, last: str) -> None:
    async with relays(api, "eu-frankfurt"):
        for who in ("ana", "bo", "cem"):  # as many events as the other life had, and more
            await api.join("r", who)
        async with stream(api, last=last) as reader:
            id_, kind, data = await reader.event()
            assert (kind, data) == ("stream.reset", {"oldest": str(id_ + 1)})
            assert (await reader.event())[0] == id_ + 1


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "²", "9" * 19])
async def test_an_id_that_is_none_is_refused(api: Api, last: str) -> None:
    refused = await api.call("GET", "/v1/events", headers={"Last-Event-ID": last})
    refused.problem(400, "last-event-id-invalid")


async def test_silence_is_filled_with_comments(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    async with stream(api) as reader:
        assert await reader.block() == {"": "alive"}
        assert await reader.block() == {"": "alive"}


async def test_one_tenant_cannot_have_all_streams(
    tls_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_OF_TENANT", 1)
    async with running(settings(tls_dir, callers=callers())) as api, stream(api, key="acme"):
        refused = await api.call("GET", "/v1/events", key="acme")
        assert "tenant acme" in refused.problem(503, "event-streams-full")["detail"]
        async with stream(api, key="beta"):
            pass


async def test_readers_are_counted_bounded_and_forgotten(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(events, "MAX_STREAMS", 1)

    async def open_streams() -> str:
        text = (await api.call("GET", "/metrics")).text
        return next(line for line in text.splitlines() if line.startswith("thalweg_event_streams "))

    async with stream(api):
        assert await open_streams() == "thalweg_event_streams 1.0"
        refused = await api.call("GET", "/v1/events")
        refused.problem(503, "event-streams-full")

    async def forgotten() -> str | None:
        now = await open_streams()
        return None if now == "thalweg_event_streams 0.0" else now

    await eventually(forgotten)
    async with stream(api):
        pass


async def test_the_end_of_the_process_ends_streams(tls_dir: Path) -> None:
    async with aiohttp.ClientSession() as session:
        async with running(settings(tls_dir)) as api:
            answer = await session.get(f"{api.url}/v1/events", headers=AUTHORIZED)
            reader = Reader(answer)
            await reader.block()
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 1
        with pytest.raises(EOFError):
            await reader.block()
