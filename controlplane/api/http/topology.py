"""/v1/topology: what operators declare, with compare-and-set."""

import asyncio
import re

from aiohttp import web

from controlplane.api.fleet_views import TopologyAnswer, TopologyDiffAnswer, TopologyOutcome
from controlplane.api.http.problems import RequestError
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.schemas import TopologyQuery

routes = Routes()

_ETAG = re.compile(r'"([0-9]{1,18})"')


@routes.add("GET", "/v1/topology", answers={200: "application/yaml"}, problems=(503,))
async def show_topology(call: Call) -> web.StreamResponse:
    """Get the topology as it was written, with its version as ETag."""
    current = await call.context.topologies.current()
    headers = {"ETag": f'"{current.version}"', "Cache-Control": "no-store"}
    return web.Response(text=current.text, content_type="application/yaml", headers=headers)


@routes.add(
    "PUT",
    "/v1/topology",
    yaml_body=True,
    query=TopologyQuery,
    answers={200: TopologyOutcome},
    problems=(412, 428, 503),
)
async def put_topology(call: Call, query: TopologyQuery) -> Answer:
    """Replace the topology that If-Match names; with dry_run, only say what that would do."""
    topologies = call.context.topologies
    await asyncio.to_thread(call.context.parse_topology, call.text)
    if query.dry_run:
        return Answer(TopologyDiffAnswer.of(await topologies.dry_run(call.text)))
    expected = _expected_version(call.request.headers.get("If-Match"))
    replaced = await topologies.replace(call.text, expect_version=expected)
    return Answer(TopologyAnswer.of(replaced), headers={"ETag": f'"{replaced.version}"'})


def _expected_version(if_match: str | None) -> int:
    """Return the version that If-Match names (RFC 9110, 13.1.1); it has to be there (RFC 6585, section 3)."""
    hint = "GET /v1/topology and send its ETag as If-Match"
    if if_match is None:
        raise RequestError(428, "if-match-missing", "If-Match is missing", hint)
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise RequestError(400, "if-match-invalid", "If-Match is not one of our ETags", hint)
    return int(match[1])
