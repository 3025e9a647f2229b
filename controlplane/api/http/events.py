"""/v1/events: what happens, as server-sent events (WHATWG HTML, section 9.2) that resume by id.

There is no queue: a stream reads the store's events at the pace of its reader. One that reads too slowly is
ended and resumes by Last-Event-ID; what it missed for too long is announced by `stream.reset`.
"""

import asyncio
import json
import re

import structlog
from aiohttp import web

from controlplane.api.http.problems import RequestError
from controlplane.api.http.routing import Call, Routes
from controlplane.api.schemas import EVENT_ID, EventsQuery
from controlplane.core.identity import Caller, Scope
from controlplane.core.model import Event, RoomId
from controlplane.errors import UnavailableError

HEARTBEAT_S = 15.0
"""Proxies close what is silent for 30 to 60 s; WHATWG suggests a comment about every 15 s."""

WRITE_TIMEOUT_S = 10.0
"""A reader that takes nothing for so long is gone, or too slow to keep."""

MAX_STREAMS = 256
"""Streams are for signalling servers and dashboards, not for browsers of participants."""

MAX_OF_TENANT = MAX_STREAMS // 2
"""One tenant must not have all."""

RETRY_MS = 1000
"""How long a reader waits before it connects again."""

RESET = "stream.reset"
"""The reader asked for ids that are gone, or that this log never had: it has to load the state anew."""

log = structlog.get_logger(__name__)

routes = Routes()


@routes.add(
    "GET",
    "/v1/events",
    scope=Scope.READ,
    headers={"Last-Event-ID": "Id of the last event that was read; wins over `after`."},
    query=EventsQuery,
    answers={200: "text/event-stream"},
    problems=(503,),
)
async def stream_events(call: Call, query: EventsQuery) -> web.StreamResponse:
    """Follow what happens; resumes behind the header Last-Event-ID.

    Without it (and without `after`) the stream begins with what happens next. Callers without the scope `admin` see
    the events of their own rooms.
    """
    after = _last_event_id(call.request)
    if after is None:
        after = query.after
    if after is None:
        after = await call.context.store.last_event_id()
    return await _Stream(call, call.room(query.room)).run(after)


def _last_event_id(request: web.Request) -> str | None:
    header = request.headers.get("Last-Event-ID", "")
    if not header:
        return None
    if not re.fullmatch(EVENT_ID, header):
        detail, hint = (
            "Last-Event-ID is not an id of ours",
            "send the `id:` of the last event, or nothing",
        )
        raise RequestError(400, "last-event-id-invalid", detail, hint)
    return header


class _RevokedError(Exception):
    """The key, or the JWT's key, that a stream was opened with is no longer in force, or may less than it did."""


class _Stream:
    """One reader."""

    def __init__(self, call: Call, room: RoomId | None) -> None:
        self._request = call.request
        self._context = call.context
        self._caller = call.caller
        self._room = room
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        self._response = web.StreamResponse(headers=headers)

    async def run(self, after: str) -> web.StreamResponse:
        """Write until the reader leaves, is too slow, or the process ends."""
        streams, tenant = self._context.event_streams, self._caller.tenant
        if streams.total() >= MAX_STREAMS:
            raise UnavailableError("event-streams-full", f"{MAX_STREAMS} streams are open already")
        if streams[tenant] >= MAX_OF_TENANT:
            own = f"{MAX_OF_TENANT} streams of tenant {tenant} are open already"
            raise UnavailableError("event-streams-full", own)
        streams[tenant] += 1
        self._context.metrics.event_streams.set(streams.total())
        try:
            await self._follow(after)
        finally:
            streams[tenant] -= 1
            self._context.metrics.event_streams.set(streams.total())
        return self._response

    async def _follow(self, after: str) -> None:
        try:
            await self._response.prepare(self._request)
            async with asyncio.TaskGroup() as group:
                tasks = (
                    group.create_task(self._pump(after)),
                    group.create_task(self._heartbeats()),
                )
                await self._context.closing.wait()
                for task in tasks:
                    task.cancel()
        except* (ConnectionResetError, TimeoutError):
            pass  # the reader is gone; it resumes where it was
        except* _RevokedError:
            log.info("an event stream was ended: its key is gone", by=self._caller.name)

    async def _pump(self, after: str) -> None:
        await self._write(f"retry: {RETRY_MS}\n\n")
        async for event in self._context.store.events(after=after):
            if event.type == RESET or self._is_wanted(event.data.get("room")):
                await self._write(_frame(event, self._caller))

    def _is_wanted(self, room: object) -> bool:
        """Return whether an event of a room (None: of nodes, the topology, admins) is for this reader."""
        if room is None:
            return self._room is None and self._caller.is_admin
        return room == self._room or (self._room is None and self._caller.sees(RoomId(str(room))))

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if not self._context.callers.knows(self._caller):
                raise _RevokedError
            await self._write(": alive\n\n")

    async def _write(self, text: str) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._response.write(text.encode())


def _frame(event: Event, caller: Caller) -> str:
    """Return an event in the wire form; JSON has no line breaks, so `data` is one line."""
    room = event.data.get("room")
    shown = {} if room is None else {"room": caller.shown(RoomId(str(room)))}
    data = json.dumps({**event.data, **shown}, separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n"
