"""The signalling side of the headless demo: joins, rooms and events over the public HTTP API, nothing else."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

REQUEST_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0


class DemoError(Exception):
    """The demo cannot go on; the message says why in one sentence."""


class RequestRefusedError(DemoError):
    """A request failed or was refused; trying again may help."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a join answers: where to go, and with what."""

    node: str
    region: str
    epoch: int
    whip_url: str
    whep_url: str
    token: str
    ice_servers: tuple[Mapping[str, Any], ...]
    decision: Mapping[str, Any]

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """Read the body of a join's answer."""
        node = answer["node"]
        return cls(
            node=node["id"],
            region=node["region"],
            epoch=answer["epoch"],
            whip_url=node["whip_url"],
            whep_url=node["whep_url"],
            token=answer["token"],
            ice_servers=tuple(answer["ice_servers"]),
            decision=answer["decision"],
        )


class DemoApi:
    """A control plane's API, as a signalling server uses it. An asynchronous context manager."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        self._http = aiohttp.ClientSession(
            url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.close()

    async def topology_yaml(self) -> str:
        """Return the topology as its operators wrote it."""
        return (await self._request("GET", "/v1/topology")).decode()

    async def node_urls(self) -> list[str]:
        """Return the base URLs of all nodes."""
        answer = json.loads(await self._request("GET", "/v1/nodes"))
        return [node["http_url"] for node in answer["nodes"]]

    async def join(self, room: str, participant: str, body: Mapping[str, Any]) -> Seat:
        """Ask for a place, or for the present one again."""
        path = f"/v1/rooms/{room}/participants/{participant}"
        return Seat.parse(json.loads(await self._request("PUT", path, body)))

    async def leave(self, room: str, participant: str) -> None:
        """Give the place back."""
        await self._request("DELETE", f"/v1/rooms/{room}/participants/{participant}")

    async def links(self, room: str) -> Sequence[Mapping[str, Any]]:
        """Return the room's cascade links with what went over them."""
        answer = json.loads(await self._request("GET", f"/v1/rooms/{room}"))
        links: Sequence[Mapping[str, Any]] = answer["cascade"]["links"]
        return links

    async def events(self, room: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """Yield the events of a room from now on. Raises RequestRefusedError when the stream breaks."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._http.get(
                "/v1/events", params={"room": room}, timeout=timeout
            ) as answer:
                await refuse_errors(answer)
                async for event in server_sent_events(answer):
                    yield event
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RequestRefusedError(f"the event stream broke: {describe(error)}") from error
        raise RequestRefusedError("the event stream ended")

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> bytes:
        try:
            async with self._http.request(method, path, json=body) as answer:
                await refuse_errors(answer)
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RequestRefusedError(f"{method} {self.url}{path}: {describe(error)}") from error


async def refuse_errors(answer: aiohttp.ClientResponse) -> None:
    """Raise RequestRefusedError with the problem's own words (RFC 9457) unless the answer is a success."""
    if answer.ok:
        return
    text = await answer.text()
    try:
        problem = json.loads(text)
        words = " ".join(filter(None, (problem["code"], problem["detail"], problem.get("hint"))))
    except (ValueError, KeyError, TypeError):
        words = text[:200]
    raise RequestRefusedError(f"{answer.method} {answer.url.path}: {answer.status} {words}")


async def server_sent_events(
    answer: aiohttp.ClientResponse,
) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
    """Yield (event type, data) of a text/event-stream (HTML, 9.2), whose data is JSON."""
    kind, data = "message", ""
    async for raw in answer.content:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if data:
                yield kind, json.loads(data)
            kind, data = "message", ""
        elif line.startswith("event:"):
            kind = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()


def describe(error: BaseException) -> str:
    """Name an error for people; some carry no message."""
    return str(error) or type(error).__name__
