"""Routes as decorated functions: one declaration checks the request, calls the handler and feeds OpenAPI.

A handler gets a Call with everything that came with the request already checked, and returns an Answer (or a
response of its own, for streams and text). What it raises becomes a problem document (problems.py). A route that may
change something has an `action`, by which its changes and refusals are audited.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from controlplane.api.audit import Attempt, accepted_request_id
from controlplane.api.client_address import client_address
from controlplane.api.context import ApiContext
from controlplane.api.http.problems import RequestError, invalid, too_large
from controlplane.core import ids
from controlplane.core.identity import NOBODY, Caller, Scope
from controlplane.core.model import RoomId
from controlplane.core.shedding import Cost
from controlplane.errors import ControlPlaneError

MAX_BODY = 64 * 1024
"""Bytes. The largest honest body is a topology; a join has less than a kilobyte."""

BODY_TIMEOUT_S = 10.0
"""A body of MAX_BODY comes within a second on any line; who sends it drop by drop wants to keep a place."""

CONTEXT = web.AppKey("context", ApiContext)

PATH_IDS: Mapping[str, Callable[[Caller, str], str]] = {
    "room": Caller.room,
    "participant": lambda _, text: ids.parse_participant(text),
    "node": lambda _, text: ids.parse_node(text),
}

REQUEST_ID = "X-Request-Id"
"""Header by which a caller finds its request in our logs again."""

_REQUEST_ID = web.RequestKey("_REQUEST_ID", str)

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Of every answer."""

YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
"""RFC 9512, and what came before it."""

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns: a body as JSON, or none."""

    body: BaseModel | str | None = None
    """A string is JSON already."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    changed: bool = True
    """False when a route that may change something changed nothing: that is not audited."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked."""

    request: web.Request
    context: ApiContext
    caller: Caller
    """NOBODY on open routes."""
    ids: Mapping[str, Any]
    """Path parameters, as the ids that they are; rooms by their internal ids."""
    text: str = ""
    """A YAML body."""
    raw: bytes = b""
    """A JSON body, as it came."""
    facts: dict[str, object] = field(default_factory=dict)
    """What the audit log should know beside `ids`."""

    def room(self, name: str | None) -> RoomId | None:
        """Return the internal id of a room that the body or the query names."""
        return None if name is None else self.caller.room(name)

    def client_address(self, vouched: str | None) -> str | None:
        """Return the address of the participant that the request is about, see client_address.py."""
        return client_address(
            vouched=vouched,
            peer=self.request.remote,
            forwarded_for=self.request.headers.getall("X-Forwarded-For", ()),
            trusted=self.context.trusted_proxies,
        )


Handler = Callable[..., Awaitable[Answer | web.StreamResponse]]
"""(call), or (call, body), (call, query), (call, body, query) as the route declares."""

Recall = Callable[[web.Request, ApiContext, Caller, bytes], Awaitable[Answer | None]]
"""Returns the answer to a call with this body that was made just before, or None to have it answered."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API."""

    method: str
    path: str
    handler: Handler
    summary: str
    scope: Scope | None
    """What a caller has to have; None when it needs no API key."""
    answers: Mapping[int, type[BaseModel] | str | None]
    """Status → model of the JSON body, media type of another one, or None for no body."""
    problems: tuple[int, ...] = ()
    """Statuses of problem documents beyond those that every route has."""
    body: type[BaseModel] | None = None
    yaml_body: bool = False
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers of its own, for the description: name → what it is for."""
    action: str | None = None
    """Name of what it changes, in the audit log."""
    recall: Recall | None = None
    cost: Cost | None = None
    """What it counts as when there is too much to do; None for operators' calls, and for joins, which know better."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Check a request, call the handler, audit what it changed, return its answer."""
        context = request.app[CONTEXT]
        caller: Caller | None = None
        facts: dict[str, object] = {}
        try:
            caller = self._caller(request, context)
            answer = await self._answer(request, context, caller, facts)
        except ControlPlaneError as error:
            if self.action is not None:
                await context.audit.failed(self._attempt(request), caller, error, facts)
            raise
        if isinstance(answer, web.StreamResponse):
            return answer
        if self.action is not None and answer.changed:
            await context.audit.done(self._attempt(request), caller, facts)
        return _response(answer)

    def _caller(self, request: web.Request, context: ApiContext) -> Caller:
        if self.scope is None:
            return NOBODY
        if self.scope is not Scope.ADMIN:
            context.overload.check(Cost.REPEAT)  # nothing is cheaper: do not even look who asks
        authorization = request.headers.get("Authorization")
        return context.callers.caller(
            authorization, peer=lambda: signalling_address(request), now=context.clock.now()
        )

    async def _answer(
        self, request: web.Request, context: ApiContext, caller: Caller, facts: dict[str, object]
    ) -> Answer | web.StreamResponse:
        if self.scope is not None:
            caller.require(self.scope)
        if self.cost is not None:
            context.overload.charge(caller.tenant, self.cost)
        raw = await _read(request, ("application/json",)) if self.body is not None else b""
        if self.recall is not None:
            known = await self.recall(request, context, caller, raw)
            if known is not None:
                return known
        parsed = {name: PATH_IDS[name](caller, text) for name, text in request.match_info.items()}
        facts |= parsed
        text = await _yaml(request) if self.yaml_body else ""
        call = Call(request, context, caller, parsed, text, raw, facts)
        arguments: list[BaseModel] = []
        if self.body is not None:
            arguments.append(_json(raw, self.body))
        if self.query is not None:
            arguments.append(_query(request, self.query))
        if self.cost is None:
            return await self.handler(call, *arguments)
        async with context.overload.place(self.cost):
            return await self.handler(call, *arguments)

    def _attempt(self, request: web.Request) -> Attempt:
        return Attempt(
            self.action or "", self.scope, signalling_address(request), request_id(request)
        )


def request_id(request: web.Request) -> str:
    """Return the caller's id of the request, or one of our own, the same each time."""
    try:
        return request[_REQUEST_ID]
    except KeyError:
        request[_REQUEST_ID] = known = accepted_request_id(request.headers.get(REQUEST_ID))
        return known


def signalling_address(request: web.Request) -> str | None:
    """Return the address of who called, behind proxies that are trusted; not that of a participant."""
    trusted = request.app[CONTEXT].trusted_proxies
    forwarded = request.headers.getall("X-Forwarded-For", ())
    behind = client_address(
        vouched=None, peer=request.remote, forwarded_for=forwarded, trusted=trusted
    )
    return behind or request.remote


def _response(answer: Answer) -> web.Response:
    headers = {**_HEADERS, **answer.headers}
    if answer.body is None:
        return web.Response(status=answer.status, headers=headers)
    headers["Content-Type"] = "application/json; charset=utf-8"
    return web.Response(body=as_json(answer.body).encode(), status=answer.status, headers=headers)


def as_json(body: BaseModel | str) -> str:
    """Return the JSON of an answer's body."""
    return body if isinstance(body, str) else body.model_dump_json(by_alias=True)


class Routes(list[Route]):
    """The routes of one resource; a decorator for each method."""

    def add(self, method: str, path: str, **rest: Any) -> Callable[[Handler], Handler]:
        """Return a decorator that adds a handler; its docstring's first line is the summary."""

        def decorate(handler: Handler) -> Handler:
            summary = (handler.__doc__ or "").strip().split("\n")[0].rstrip(".")
            self.append(Route(method, path, handler, summary, **rest))
            return handler

        return decorate


async def _read(request: web.Request, types: tuple[str, ...]) -> bytes:
    if request.content_type not in types:
        detail = f"the body is {request.content_type}, {types[0]} is needed"
        raise RequestError(
            415, "content-type-unsupported", detail, f"send Content-Type: {types[0]}"
        )
    if hdrs.CONTENT_ENCODING in request.headers:
        raise RequestError(
            415, "content-encoding-unsupported", "the body is encoded", "send it as it is"
        )
    if (request.content_length or 0) > MAX_BODY:
        raise too_large()
    try:
        if request.content.is_eof():  # nearly always: a join fits into the packet of its headers
            return _not_too_large(request.content.read_nowait())
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except (web.RequestPayloadError, ConnectionError) as error:
        detail = "the body did not come as its headers say"
        raise RequestError(400, "body-broken", detail, "send it again") from error
    except TimeoutError as error:
        detail = f"the body did not come within {BODY_TIMEOUT_S:.0f} s"
        raise RequestError(408, "body-too-slow", detail, "send it at once") from error


def _not_too_large(raw: bytes) -> bytes:
    """Return a body whose length no header said."""
    if len(raw) > MAX_BODY:
        raise too_large()
    return raw


def _json(raw: bytes, model: type[_M]) -> _M:
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        broken = error.errors()[0]["type"] == "json_invalid"
        code, what = ("json-malformed", "not JSON") if broken else ("body-invalid", "the body")
        raise invalid(code, what, error) from error


async def _yaml(request: web.Request) -> str:
    raw = await _read(request, YAML_TYPES)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RequestError(
            400, "yaml-malformed", f"not UTF-8: {error}", "save it as UTF-8"
        ) from error


def _query(request: web.Request, model: type[_M]) -> _M:
    repeated = sorted({name for name in request.query if len(request.query.getall(name)) > 1})
    if repeated:
        raise RequestError(400, "query-invalid", f"{repeated[0]} is there twice", "send it once")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise invalid("query-invalid", "the query", error) from error
