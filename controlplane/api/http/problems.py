"""Problem documents (RFC 9457): whatever goes wrong leaves as one, with a stable code."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from controlplane.api.schemas import first_fault
from controlplane.api.views import Problem
from controlplane.errors import ControlPlaneError, InvalidInputError, UnavailableError

CONTENT_TYPE = "application/problem+json"

TYPE_BASE = "https://thalweg.dev/problems/"

MAX_ERRORS = 20
"""Entries of `errors`; a body with more mistakes than this has one cause."""

log = structlog.get_logger(__name__)


class RequestError(ControlPlaneError):
    """Something about the HTTP request itself, with a status of its own."""

    def __init__(self, status: int, code: str, detail: str, hint: str = "") -> None:
        super().__init__(code, detail, hint)
        self.status = status


def problem_response(
    error: ControlPlaneError, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error as a problem document with the headers that its status demands."""
    sent = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    if error.status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = _challenge(error.code)
    if isinstance(error, UnavailableError):
        sent["Retry-After"] = str(error.retry_after_s)
    members: dict[str, Any] = {
        **error.extra,
        "type": TYPE_BASE + error.code,
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "hint": error.hint or None,
    }
    text = Problem.model_validate(members).model_dump_json(exclude_none=True)
    return web.Response(text=text, status=error.status, content_type=CONTENT_TYPE, headers=sent)


def _challenge(code: str) -> str:
    """Return the challenge of RFC 6750, section 3: an error only where credentials were given."""
    return 'Bearer realm="thalweg"' + (
        "" if code == "api-key-missing" else ', error="invalid_token"'
    )


def invalid(code: str, what: str, error: ValidationError) -> InvalidInputError:
    """Return pydantic's findings as an error of ours, every one with its place."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    entries = [{"loc": list(one["loc"]), "msg": one["msg"]} for one in found[:MAX_ERRORS]]
    hint = "every fault is in `errors`; /docs describes what is expected"
    return InvalidInputError(code, first_fault(what, error), hint, extra={"errors": entries})


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into a problem document."""
    try:
        return await handler(request)
    except ControlPlaneError as error:
        return problem_response(error)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _from_aiohttp(request, error)
    except Exception:
        log.exception("a handler failed", method=request.method, path=request.path)
        return problem_response(
            RequestError(
                500, "internal-error", "this is a fault of ours", "the log has it; try again"
            )
        )


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> web.Response:
    """Return what aiohttp itself refuses: routing and body size."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = ", ".join(sorted(error.allowed_methods))
        detail = f"{request.method} is not a method of this path"
        refused = RequestError(405, "method-not-allowed", detail, f"use {allow}")
        return problem_response(refused, {"Allow": allow})
    if error.status == HTTPStatus.NOT_FOUND:
        return problem_response(
            RequestError(
                404, "path-unknown", "there is nothing at this path", "/docs lists all paths"
            )
        )
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return problem_response(too_large())
    return problem_response(RequestError(error.status, "request-refused", error.reason))


def too_large() -> RequestError:
    """Return the error for a body above the limit."""
    return RequestError(413, "body-too-large", "the body has more than 64 KiB", "send less")
