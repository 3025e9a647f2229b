"""Routes as decorated functions: one declaration checks the request, calls the handler and feeds OpenAPI.

A handler gets a Call with everything that came with the request already checked, and returns an Answer (or a
response of its own, for streams and text). What it raises becomes a problem document (problems.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from controlplane.api.client_address import client_address
from controlplane.api.context import ApiContext
from controlplane.api.http.problems import RequestError, invalid, too_large
from controlplane.core import ids

MAX_BODY = 64 * 1024
"""Bytes. The largest honest body is a topology; a join has less than a kilobyte."""

BODY_TIMEOUT_S = 10.0
"""A body of MAX_BODY comes within a second on any line; who sends it drop by drop wants to keep a place."""

CONTEXT = web.AppKey("context", ApiContext)

PATH_IDS: Mapping[str, Callable[[str], str]] = {
    "room": ids.parse_room,
    "participant": ids.parse_participant,
    "node": ids.parse_node,
}

YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
"""RFC 9512, and what came before it."""

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns: a body as JSON, or none."""

    body: BaseModel | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked."""

    request: web.Request
    context: ApiContext
    caller: str
    """Name of the API key; empty on open routes."""
    ids: Mapping[str, Any]
    """Path parameters, as the ids that they are."""
    text: str = ""
    """A YAML body."""

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


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, type[BaseModel] | str | None]
    """Status → model of the JSON body, media type of another one, or None for no body."""
    problems: tuple[int, ...] = ()
    """Statuses of problem documents beyond those that every route has."""
    body: type[BaseModel] | None = None
    yaml_body: bool = False
    query: type[BaseModel] | None = None
    is_open: bool = False
    """Needs no API key."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Check a request, call the handler, return its answer."""
        context = request.app[CONTEXT]
        caller = "" if self.is_open else context.keys.caller(request.headers.get("Authorization"))
        parsed = {name: PATH_IDS[name](text) for name, text in request.match_info.items()}
        arguments: list[BaseModel] = []
        text = await _yaml(request) if self.yaml_body else ""
        if self.body is not None:
            arguments.append(await _json(request, self.body))
        if self.query is not None:
            arguments.append(_query(request, self.query))
        answer = await self.handler(Call(request, context, caller, parsed, text), *arguments)
        if isinstance(answer, web.StreamResponse):
            return answer
        headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **answer.headers,
        }
        if answer.body is None:
            return web.Response(status=answer.status, headers=headers)
        text = answer.body.model_dump_json(by_alias=True)
        return web.json_response(text=text, status=answer.status, headers=headers)


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
    if (request.content_length or 0) > MAX_BODY:
        raise too_large()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError as error:
        detail = f"the body did not come within {BODY_TIMEOUT_S:.0f} s"
        raise RequestError(408, "body-too-slow", detail, "send it at once") from error


async def _json(request: web.Request, model: type[_M]) -> _M:
    raw = await _read(request, ("application/json",))
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
