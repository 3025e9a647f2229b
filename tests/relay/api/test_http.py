"""The rest of the node's HTTP: probes, health, CORS, and paths that are not there."""

import aiohttp
import pytest

from tests.relay.api.asking import assert_problem
from tests.relay.rtc import RunningNode


async def test_a_probe_is_small_open_to_all_and_never_cached(http: aiohttp.ClientSession) -> None:
    async with http.get("/probe", headers={"Origin": "https://app.example"}) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Timing-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/whip/r/ana", "/whep/r/ana", "/sessions/x", "/sessions/x/slots", "/probe"]
)
async def test_a_browser_may_ask_before(http: aiohttp.ClientSession, path: str) -> None:
    headers = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with http.options(path, headers=headers) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        methods = answer.headers["Access-Control-Allow-Methods"].split(", ")
        assert {"GET", "POST", "PATCH", "DELETE"} <= set(methods)
        allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert {"authorization", "content-type"} <= set(allowed)


@pytest.mark.parametrize("path", ["/", "/whip", "/whip/r", "/whip/r/ana/x", "/nothing"])
async def test_a_path_that_is_not_there(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as answer:
        await assert_problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/whip/r/ana", "POST"),
        ("PUT", "/sessions/x", "DELETE,PATCH"),
        ("POST", "/probe", "GET,HEAD"),
    ],
)
async def test_a_method_that_is_not_there(
    http: aiohttp.ClientSession, method: str, path: str, allowed: str
) -> None:
    async with http.request(method, path) as answer:
        await assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


async def test_a_node_is_ready_when_it_serves_and_knows_keys(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    async with http.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"ok": True})
    async with http.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "draining": False})
    node.state.draining = True
    async with http.get("/readyz") as answer:
        assert (await answer.json())["draining"] is True
    for change in ({"serving": False}, {"stopping": True}):
        before = {name: getattr(node.state, name) for name in change}
        for name, value in change.items():
            setattr(node.state, name, value)
        async with http.get("/readyz") as answer:
            await assert_problem(answer, 503, "not_ready")
        for name, value in before.items():
            setattr(node.state, name, value)
    node.state.token_keys.replace({})
    async with http.get("/readyz") as answer:
        await assert_problem(answer, 503, "not_ready")


async def test_metrics_are_text(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as answer:
        assert (answer.status, answer.content_type) == (200, "text/plain")
