"""The HTTP door: all routes of all resources, and the middleware around them."""

import json

from aiohttp import web

from controlplane.api.context import ApiContext
from controlplane.api.http import (
    decisions,
    events,
    node_tokens,
    nodes,
    operation,
    participants,
    probe_plans,
    rooms,
    topology,
)
from controlplane.api.http.openapi import describe
from controlplane.api.http.problems import problems
from controlplane.api.http.routing import CONTEXT, MAX_BODY, REQUEST_ID, Route, request_id
from guard.connections import Connections


def http_app(
    context: ApiContext, docs: str, connections: Connections | None = None
) -> web.Application:
    """Return the application; it ends its streams when it is shut down. No CORS: it is for servers.

    `docs` is the page of /docs.
    """
    guards = [] if connections is None else [connections.middleware]
    app = web.Application(middlewares=[*guards, problems], client_max_size=MAX_BODY)
    listed = all_routes(open_metrics=context.open_metrics)
    app[CONTEXT] = context
    app[operation.SPECIFICATION] = json.dumps(describe(listed))
    app[operation.DOCS] = docs
    for route in listed:
        app.router.add_route(route.method, route.path, route.serve)
        if route.method == "GET" and route.answers[200] != "text/event-stream":
            # RFC 9110, section 9.1: every server has it.
            app.router.add_route("HEAD", route.path, route.serve)

    async def end_streams(_app: web.Application) -> None:
        context.closing.set()

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "thalweg"  # and not the versions that aiohttp would tell
        response.headers[REQUEST_ID] = request_id(request)

    app.on_shutdown.append(end_streams)
    app.on_response_prepare.append(sign)
    return app


def all_routes(*, open_metrics: bool) -> list[Route]:
    """Return every route of the API, in the order of the docs."""
    return [
        *participants.routes,
        *decisions.routes,
        *rooms.routes,
        *probe_plans.routes,
        *events.routes,
        *nodes.routes,
        *node_tokens.routes,
        *topology.routes,
        *operation.routes,
        *operation.metrics_routes(is_open=open_metrics),
    ]
