"""The demo's signalling: what a page may ask, passed on to the control plane.

It stands where a user's own signalling server stands: it alone holds the API key and decides what a page may ask.
One thing it does that no signalling server should: it pretends. On one machine every edge is equally near, so a
tab says "I am in Frankfurt" and the join carries the round trips that the topology declares for a client there.
"""

import contextlib
import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from controlplane.api.http.problems import RequestError
from controlplane.api.schemas import EVENT_ID
from controlplane.core import ids
from controlplane.core.model import ParticipantId, RegionId, RoomId, Topology
from controlplane.errors import InvalidInputError, UnavailableError

ACCESS_RTT_MS = 5.0
"""Pretended round trip between a client and the edge of its own place: a good access network in the same city."""
PROBE_SAMPLES = 3
"""As many as a browser would take; they are all alike, because a pretence should not fake precision."""
MAX_EXCLUDED = 16
MAX_PLACES = 1000
"""Participants whose pretended place is remembered; the oldest is forgotten first, and is then drawn at its edge."""
MAX_STREAMS = 100
"""Open event streams; a browser opens one per visible tab."""
MAX_EVENT = 64 * 1024
"""Bytes of one event; the largest, a cascade of a crowded room, is a few kilobytes."""
EVENT_SILENCE_S = 45.0
"""The control plane writes a comment every 15 s: three missing ones mean that it is gone."""
CALL_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=1)


class DemoSignalling:
    """The handlers under /signal, and the one client of the control plane that they share."""

    def __init__(self, control_plane: str, api_key: str, topology: Topology) -> None:
        self._control_plane = control_plane.rstrip("/")
        self._topology = topology
        self._places: OrderedDict[tuple[RoomId, ParticipantId], RegionId] = OrderedDict()
        self._streams = 0
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {api_key}"}, timeout=CALL_TIMEOUT
        )

    async def close(self) -> None:
        """Hang up."""
        await self._http.close()

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to an application."""
        return [
            web.get("/signal/world", self._world),
            web.post("/signal/probe-plan", self._probe_plan),
            web.post("/signal/join", self._join),
            web.post("/signal/leave", self._leave),
            web.get("/signal/nodes", self._nodes),
            web.get("/signal/room/{room}", self._room),
            web.get("/signal/room/{room}/decision/{participant}", self._decision),
            web.get("/signal/events", self._events),
        ]

    async def _world(self, _request: web.Request) -> web.Response:
        regions = [
            {"id": r.id, "title": r.title, "lat": r.location.lat, "lon": r.location.lon}
            for r in self._topology.regions.values()
        ]
        links = [
            {"between": list(link.between), "rtt_ms": link.rtt_ms} for link in self._topology.links
        ]
        return web.json_response(
            {"regions": regions, "links": links, "access_rtt_ms": ACCESS_RTT_MS}
        )

    async def _join(self, request: web.Request) -> web.Response:
        asked = await _json_object(request)
        room = ids.parse_room(_text(asked, "room"))
        participant = ids.parse_participant(_text(asked, "participant"))
        place = RegionId(_text(asked, "place"))
        probes = pretended_probes(self._topology, place)
        body = {
            "session": _text(asked, "session"),
            "probes": [{"region": r, "rtt_ms": [ms] * PROBE_SAMPLES} for r, ms in probes.items()],
            "exclude_nodes": _excluded(asked),
        }
        response = await self._call("PUT", participant_path(room, participant), body)
        if response.status in {200, 201}:
            self._places[room, participant] = place
            self._places.move_to_end((room, participant))
            if len(self._places) > MAX_PLACES:
                self._places.popitem(last=False)
        return response

    async def _leave(self, request: web.Request) -> web.Response:
        asked = await _json_object(request)
        room = ids.parse_room(_text(asked, "room"))
        participant = ids.parse_participant(_text(asked, "participant"))
        response = await self._call("DELETE", participant_path(room, participant))
        self._places.pop((room, participant), None)
        return response

    async def _probe_plan(self, request: web.Request) -> web.Response:
        asked = await _json_object(request)
        body = {"room": ids.parse_room(_text(asked, "room"))} if "room" in asked else {}
        return await self._call("POST", "/v1/probe-plans", body)

    async def _nodes(self, _request: web.Request) -> web.Response:
        return await self._call("GET", "/v1/nodes")

    async def _room(self, request: web.Request) -> web.Response:
        room = ids.parse_room(request.match_info["room"])
        response = await self._call("GET", f"/v1/rooms/{room}")
        if response.status != 200 or not isinstance(response.body, bytes):
            return response
        view: dict[str, Any] = json.loads(response.body)
        for member in view["participants"]:
            member["place"] = self._places.get((room, member["participant"]))
        return web.json_response(view)

    async def _decision(self, request: web.Request) -> web.Response:
        room = ids.parse_room(request.match_info["room"])
        participant = ids.parse_participant(request.match_info["participant"])
        return await self._call("GET", f"{participant_path(room, participant)}/decision")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        room = request.query.get("room", "")
        last = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        if self._streams >= MAX_STREAMS:
            raise UnavailableError("event-streams-full", f"{MAX_STREAMS} event streams are open")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=1, sock_read=EVENT_SILENCE_S)
        self._streams += 1
        try:
            async with self._http.get(
                f"{self._control_plane}/v1/events",
                headers={"Last-Event-ID": last} if re.fullmatch(EVENT_ID, last) else {},
                timeout=timeout,
            ) as upstream:
                if upstream.status != 200:
                    return await _copied(upstream)
                return await _forward_events(upstream.content, request, room)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _away(error) from error
        finally:
            self._streams -= 1

    async def _call(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> web.Response:
        try:
            async with self._http.request(
                method, f"{self._control_plane}{path}", json=body
            ) as upstream:
                return await _copied(upstream)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _away(error) from error


def pretended_probes(topology: Topology, place: RegionId) -> dict[RegionId, float]:
    """Return the round trips in milliseconds that a client at `place` would measure, by region.

    A region whose round trip to `place` nobody declared is left out: it is not known, so it is not pretended.
    Raises InvalidInputError for a place that is no region.
    """
    if place not in topology.regions:
        known = ", ".join(sorted(topology.regions))
        raise InvalidInputError(
            "place-unknown", f"there is no region {place!r}", f"choose one of {known}"
        )
    probes = {place: ACCESS_RTT_MS}
    for link in topology.links:
        if place in link.between and link.rtt_ms is not None:
            other = link.between[1] if link.between[0] == place else link.between[0]
            probes[other] = link.rtt_ms + ACCESS_RTT_MS
    return probes


def participant_path(room: RoomId, participant: ParticipantId) -> str:
    """Return the path of a participant in the control plane's API; accepted ids need no escaping."""
    return f"/v1/rooms/{room}/participants/{participant}"


async def _forward_events(
    content: aiohttp.StreamReader, request: web.Request, room: str
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    await response.write(b"retry: 1000\n\n")
    # An upstream that breaks off ends this stream too: the page's EventSource comes back and resumes.
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async for event in _event_blocks(content):
            if concerns(event, room):
                await response.write(event)
    return response


async def _event_blocks(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Cut a text/event-stream into its events; each ends with its empty line."""
    block = bytearray()
    async for line in content:
        block += line
        if len(block) > MAX_EVENT:
            raise aiohttp.ClientPayloadError(f"an event is longer than {MAX_EVENT} bytes")
        if not line.strip():
            yield bytes(block)
            block.clear()


def concerns(event: bytes, room: str) -> bool:
    """Return whether an event is of `room`, or of no room at all (nodes, topology, comments)."""
    data = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    return not data or json.loads(data).get("room", room) == room


async def _copied(upstream: aiohttp.ClientResponse) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if retry_after := upstream.headers.get("Retry-After"):
        headers["Retry-After"] = retry_after
    body = await upstream.read()
    if not body:
        return web.Response(status=upstream.status, headers=headers)
    return web.Response(
        status=upstream.status, headers=headers, body=body, content_type=upstream.content_type
    )


async def _json_object(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise RequestError(
            415, "content-type-unsupported", "the body must be sent as application/json"
        )
    try:
        body = await request.json()
    except ValueError as error:
        raise InvalidInputError("json-malformed", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidInputError("body-invalid", "the body must be a JSON object")
    return body


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidInputError("body-invalid", f'"{key}" must be a text that is not empty')
    return value


def _excluded(body: Mapping[str, Any]) -> list[str]:
    value = body.get("exclude_nodes", [])
    if not isinstance(value, list) or len(value) > MAX_EXCLUDED:
        raise InvalidInputError(
            "body-invalid", f'"exclude_nodes" must be a list of at most {MAX_EXCLUDED} node ids'
        )
    return value


def _away(error: Exception) -> UnavailableError:
    return UnavailableError(
        "control-plane-away",
        "the control plane does not answer"
        + (" in time" if isinstance(error, TimeoutError) else ""),
        "look at the terminal where `thalweg up` runs",
    )
