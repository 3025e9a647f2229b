"""/healthz, /readyz, /metrics, /openapi.json, /docs: for operators and their machines."""

from aiohttp import web

from controlplane.adapters.assets import web_dir
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.views import Health
from controlplane.core.identity import Scope

routes = Routes()

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DOCS_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page carries its own script and style and talks to nobody else."""

SPECIFICATION = web.AppKey("specification", str)

DOCS = web.AppKey("docs", str)


@routes.add("GET", "/healthz", scope=None, answers={200: Health})
async def healthz(_call: Call) -> Answer:
    """Say that the process lives."""
    return Answer(Health(status="ok"))


@routes.add("GET", "/readyz", scope=None, answers={200: Health}, problems=(503,))
async def readyz(call: Call) -> Answer:
    """Say whether joins can be answered: a topology is loaded. "degraded" is ready, too: they are answered."""
    await call.context.topologies.current()
    health = await call.context.store.health()
    return Answer(Health(status="ready" if health.mode == "normal" else "degraded"))


async def metrics(call: Call) -> web.StreamResponse:
    """Expose metrics in Prometheus' text format."""
    context = call.context
    totals = await context.rooms.totals()
    body = context.metrics.expose(
        [view.node for view in await context.fleet.nodes()],
        totals,
        await context.store.health(),
    )
    return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})


@routes.add("GET", "/openapi.json", scope=None, answers={200: "application/json"})
async def openapi(call: Call) -> web.StreamResponse:
    """Get this description (OpenAPI 3.1)."""
    return web.Response(text=call.request.app[SPECIFICATION], content_type="application/json")


@routes.add("GET", "/docs", scope=None, answers={200: "text/html"})
async def docs(call: Call) -> web.StreamResponse:
    """Read about this API; works offline."""
    headers = {"Content-Security-Policy": DOCS_POLICY, "X-Content-Type-Options": "nosniff"}
    return web.Response(text=call.request.app[DOCS], content_type="text/html", headers=headers)


def metrics_routes(*, is_open: bool) -> Routes:
    """Return the route of /metrics, which operators may open."""
    found = Routes()
    found.add(
        "GET", "/metrics", scope=None if is_open else Scope.ADMIN, answers={200: "text/plain"}
    )(metrics)
    return found


def docs_page() -> str:
    """Return the docs page. Raises FileNotFoundError when the installation lacks it."""
    return (web_dir() / "docs.html").read_text(encoding="utf-8")
