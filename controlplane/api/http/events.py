"""/v1/events: what happens, as server-sent events (WHATWG HTML, section 9.2) that resume by id.

There is no queue: a stream reads the store's events at the pace of its reader. One that reads too slowly is
ended and resumes by Last-Event-ID; what it missed for too long is announced by `stream.reset`.
"""

import asyncio
import json

from aiohttp import web

from controlplane.api.context import ApiContext
from controlplane.api.http.problems import RequestError
from controlplane.api.http.routing import Call, Routes
from controlplane.api.schemas import EventsQuery
from controlplane.core.model import Event
from controlplane.errors import UnavailableError

HEARTBEAT_S = 15.0
"""Proxies close what is silent for 30 to 60 s; WHATWG suggests a comment about every 15 s."""

WRITE_TIMEOUT_S = 10.0
"""A reader that takes nothing for so long is gone, or too slow to keep."""

MAX_STREAMS = 256
"""Streams are for signalling servers and dashboards, not for browsers of participants."""

RETRY_MS = 1000
"""How long a reader waits before it connects again."""

RESET = "stream.reset"
"""The reader asked for ids that are gone, or that this log never had: it has to load the state anew."""

routes = Routes()


@routes.add(
    "GET", "/v1/events", query=EventsQuery, answers={200: "text/event-stream"}, problems=(503,)
)
async def stream_events(call: Call, query: EventsQuery) -> web.StreamResponse:
    """Follow what happens; resumes behind the header Last-Event-ID.

    Without it (and without `after`) the stream begins with what happens next.
    """
    after = _last_event_id(call.request)
    if after is None:
        after = query.after
    if after is None:
        after = await call.context.store.last_event_id()
    return await _Stream(call.request, call.context, query.room).run(after)


def _last_event_id(request: web.Request) -> int | None:
    header = request.headers.get("Last-Event-ID", "")
    if not header:
        return None
    if not (header.isascii() and header.isdigit() and len(header) <= 18):
        detail, hint = (
            "Last-Event-ID is not an id of ours",
            "send the `id:` of the last event, or nothing",
        )
        raise RequestError(400, "last-event-id-invalid", detail, hint)
    return int(header)


class _Stream:
    """One reader."""

    def __init__(self, request: web.Request, context: ApiContext, room: str | None) -> None:
        self._request = request
        self._context = context
        self._room = room
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        self._response = web.StreamResponse(headers=headers)

    async def run(self, after: int) -> web.StreamResponse:
        """Write until the reader leaves, is too slow, or the process ends."""
        streams = self._context.event_streams
        if len(streams) >= MAX_STREAMS:
            raise UnavailableError("event-streams-full", f"{MAX_STREAMS} streams are open already")
        streams.add(self)
        self._context.metrics.event_streams.set(len(streams))
        try:
            await self._follow(after)
        finally:
            streams.discard(self)
            self._context.metrics.event_streams.set(len(streams))
        return self._response

    async def _follow(self, after: int) -> None:
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

    async def _pump(self, after: int) -> None:
        await self._write(f"retry: {RETRY_MS}\n\n")
        async for event in self._context.store.events(after=after):
            if self._room is None or event.type == RESET or event.data.get("room") == self._room:
                await self._write(_frame(event))

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._write(": alive\n\n")

    async def _write(self, text: str) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._response.write(text.encode())


def _frame(event: Event) -> str:
    """Return an event in the wire form; JSON has no line breaks, so `data` is one line."""
    data = json.dumps(dict(event.data), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n"
