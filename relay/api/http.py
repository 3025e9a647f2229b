"""The node's HTTP server: sessions, probes, health and metrics."""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from guard.connections import Connections
from relay.api.asking import limited
from relay.api.probes import Probes
from relay.api.sessions import Sessions
from relay.api.state import NodeState
from relay.core.sdp import MAX_SIZE
from relay.engines.base import MediaEngine
from relay.errors import (
    RelayError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnavailableError,
)

PROBLEM_BASE = "https://thalweg.dev/problems/"

_EXPOSED = ("Location", "ETag", "Link", "Retry-After")
"""What a page's script may read of an answer."""

_PREFLIGHT = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, PATCH, DELETE, OPTIONS",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, If-Match",
    hdrs.ACCESS_CONTROL_MAX_AGE: "86400",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(
    engine: MediaEngine,
    state: NodeState,
    probes: Probes,
    metrics: Callable[[], bytes],
    connections: Connections | None = None,
) -> web.Application:
    """Return the application; `metrics` renders the Prometheus text format, `connections` bounds what clients hold."""

    async def readyz(_: web.Request) -> web.Response:
        if state.not_ready is not None:
            raise UnavailableError("not_ready", state.not_ready)
        return web.json_response({"ready": True, "draining": state.draining})

    async def render_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics(), headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4"}
        )

    guards = [] if connections is None else [connections.middleware]
    app = web.Application(
        middlewares=[*guards, _problems, limited(probes.trusted)], client_max_size=MAX_SIZE
    )
    app.on_response_prepare.append(_dress)
    app.add_routes(Sessions(engine, state).routes())
    app.add_routes(
        [
            web.get("/probe", probes.get),
            web.get("/healthz", _healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", render_metrics),
        ]
    )
    return app


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"ok": True})


async def _dress(_: web.Request, response: web.StreamResponse) -> None:
    """Let any web page use the node (what it may do here is its token's business) and send nothing for nobody."""
    headers = response.headers
    headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    if any(name in headers for name in _EXPOSED):
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = ", ".join(_EXPOSED)
    headers.popall(hdrs.SERVER, None)  # a probe's answer is small, and versions are for attackers


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document (RFC 9457); let browsers ask before, of any resource."""
    if request.method == hdrs.METH_OPTIONS:
        return web.Response(status=204, headers=_PREFLIGHT)
    try:
        return await handler(request)
    except RelayError as error:
        response = _problem(error.status, error.code, error.detail, error.hint)
        if isinstance(error, UnauthenticatedError):
            response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
        if isinstance(error, UnavailableError | TooManyRequestsError):
            response.headers[hdrs.RETRY_AFTER] = "1"
        return response
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(
            error.status, "http_error"
        )
        response = _problem(error.status, code, error.reason, "")
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response


def _problem(status: int, code: str, detail: str, hint: str) -> web.Response:
    body = {
        "type": PROBLEM_BASE + code,
        "title": code.replace("_", " "),
        "status": status,
        "detail": detail,
        "code": code,
    }
    if hint:
        body["hint"] = hint
    return web.json_response(body, status=status, content_type="application/problem+json")
