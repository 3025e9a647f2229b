"""/v1/topology: what operators declare, with compare-and-set."""

import asyncio
import re
from collections.abc import Sequence

from aiohttp import web

from controlplane.api.fleet_views import TopologyAnswer
from controlplane.api.http.problems import RequestError
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.plan_views import TopologyDiffAnswer, TopologyOutcome
from controlplane.api.schemas import TopologyQuery
from controlplane.core.identity import Scope
from controlplane.services.topologies import Topologies, stale

routes = Routes()

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")
_ETAG = re.compile(r'(?<!W/)"([1-9][0-9]{0,17})"')
"""Ours are strong, and a version's number. Any other tag is well formed and matches nothing (RFC 9110, 8.8.3.2)."""


@routes.add(
    "GET",
    "/v1/topology",
    scope=Scope.ADMIN,
    answers={200: "application/yaml"},
    problems=(503,),
)
async def show_topology(call: Call) -> web.StreamResponse:
    """Get the topology as it was written, with its version as ETag."""
    current = await call.context.topologies.current()
    headers = {"ETag": f'"{current.version}"', "Cache-Control": "no-store"}
    return web.Response(text=current.text, content_type="application/yaml", headers=headers)


@routes.add(
    "PUT",
    "/v1/topology",
    scope=Scope.ADMIN,
    action="topology.replace",
    headers={"If-Match": "ETag of the version to be replaced; needed unless dry_run."},
    yaml_body=True,
    query=TopologyQuery,
    answers={200: TopologyOutcome},
    problems=(412, 428, 503),
)
async def put_topology(call: Call, query: TopologyQuery) -> Answer:
    """Replace the topology that If-Match names; with dry_run, only say what that would do."""
    await asyncio.to_thread(call.context.parse_topology, call.text)
    if query.dry_run:
        diff = TopologyDiffAnswer.of(await call.context.planning.topology(call.text))
        return Answer(diff, changed=False)
    topologies = call.context.topologies
    expected = await _expected(call.request.headers.getall("If-Match", ()), topologies)
    replaced = await topologies.replace(call.text, expect_version=expected)
    call.facts.update(replaced=expected, version=replaced.version)
    return Answer(TopologyAnswer.of(replaced), headers={"ETag": f'"{replaced.version}"'})


async def _expected(if_match: Sequence[str], topologies: Topologies) -> int:
    """Return the version in force if If-Match names it (RFC 9110, 13.1.1); it has to be there (RFC 6585, section 3).

    The comparison is the strong one: weak and foreign tags match nothing. "*" would replace blindly and is refused.
    """
    hint = "GET /v1/topology and send its ETag as If-Match"
    if not if_match:
        raise RequestError(428, "if-match-missing", "If-Match is missing", hint)
    listed = ", ".join(if_match).strip()
    if _TAGS.fullmatch(listed) is None:
        raise RequestError(400, "if-match-invalid", "If-Match is no list of entity tags", hint)
    current = await topologies.current()
    if str(current.version) not in _ETAG.findall(listed):
        raise stale(listed[:80], current.version)
    return current.version
