"""`probe` of thalweg.js in Chromium, against real nodes behind paths of known length."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page

from tests.e2e.test_browser_demo import browser  # noqa: F401 - a fixture
from tests.fakes.waiting import eventually
from tests.relay.rtc import LOOPBACK, RunningNode, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

MODULE = Path(__file__).parents[2] / "web" / "thalweg.js"
NEAR_MS, FAR_MS = 20.0, 120.0
SLACK_MS = 15.0
"""What proxy, node and browser may add on two busy cores, in the best of four samples."""


@asynccontextmanager
async def far_away(url: str, rtt_ms: float) -> AsyncIterator[str]:
    """Lengthen the path to a server: each direction of a connection takes half of `rtt_ms`."""
    target = urlsplit(url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await asyncio.sleep(rtt_ms / 2000)
                writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(rtt_ms / 1000)  # as long as TCP takes to open
        up_reader, up_writer = await asyncio.open_connection(target.hostname, target.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, up_writer))
            tasks.create_task(pump(up_reader, writer))

    server = await asyncio.start_server(connected, LOOPBACK, 0)
    try:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:  # noqa: F811
    """A page that can import thalweg.js, of another origin than the nodes."""

    async def index(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>t</title>", content_type="text/html")

    async def module(_: web.Request) -> web.FileResponse:
        return web.FileResponse(MODULE)

    app = web.Application()
    app.add_routes([web.get("/", index), web.get("/thalweg.js", module)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    page = await (await browser.new_context()).new_page()
    await page.goto(f"http://{LOOPBACK}:{runner.addresses[0][1]}/")
    yield page
    await runner.cleanup()


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node() as running:
        yield running


async def probed(page: Page, plan: object) -> dict[str, list[float]]:
    """Return what `probe` makes of a plan: samples by region."""
    code = "async (plan) => (await import('/thalweg.js')).probe(plan)"
    probes: list[dict[str, Any]] = await page.evaluate(code, plan)
    assert all(set(one) == {"region", "rtt_ms"} for one in probes)
    return {one["region"]: one["rtt_ms"] for one in probes}


async def test_samples_are_what_the_path_has_and_do_not_contain_the_connecting(
    page: Page, node: RunningNode
) -> None:
    async with (
        far_away(f"{node.url}", NEAR_MS) as near,
        running_node() as other,
        far_away(other.url, FAR_MS) as far,
    ):
        targets = [
            {"region": "far", "url": f"{far}/probe"},
            {"region": "near", "url": f"{near}/probe?x=1"},
        ]
        samples = await probed(page, targets)
    assert list(samples) == ["far", "near"]
    assert [len(rtts) for rtts in samples.values()] == [4, 4]
    assert node.probes.answered == other.probes.answered == 5
    assert NEAR_MS <= min(samples["near"]) <= NEAR_MS + SLACK_MS
    assert FAR_MS <= min(samples["far"]) <= FAR_MS + SLACK_MS


async def test_a_busy_page_measures_the_path_and_not_itself(page: Page, node: RunningNode) -> None:
    """And one whose record of requests is full, as of a page with many pictures."""
    spin = """() => {
        performance.setResourceTimingBufferSize(0);
        setInterval(() => { for (const end = performance.now() + 90; performance.now() < end;); }, 95);
    }"""
    await page.evaluate(spin)
    async with far_away(node.url, NEAR_MS) as near:
        samples = await probed(page, [{"region": "near", "url": f"{near}/probe"}])
    assert NEAR_MS <= min(samples["near"]) <= NEAR_MS + SLACK_MS


async def test_more_is_measured_only_when_the_nearest_is_further_than_the_plan_expects(
    page: Page, node: RunningNode
) -> None:
    first, more = ({"region": region, "url": f"{node.url}/probe"} for region in ("first", "more"))
    dead = {"region": "dead", "url": "http://127.0.0.1:1/probe"}
    plan = {"regions": [first], "more": [more]}
    assert list(await probed(page, plan | {"more_above_ms": 5000.0})) == ["first"]
    assert list(await probed(page, plan | {"more_above_ms": 0})) == ["first", "more"]
    assert list(await probed(page, plan | {"more_above_ms": None})) == ["first"]
    assert list(await probed(page, {"regions": [dead, first]})) == ["first"]
    hopeless = {"regions": [dead], "more": [more], "more_above_ms": 5000.0}
    assert list(await probed(page, hopeless)) == ["more"]


@pytest.mark.parametrize(
    "plan", [None, [], {}, "x", {"regions": "x"}, [None], [{"region": "a"}], [{"url": "http://[/"}]]
)
async def test_nothing_makes_it_throw(page: Page, plan: object) -> None:
    assert await probed(page, plan) == {}


async def test_who_is_limited_has_fewer_samples(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.api.probes.PROBES_PER_S", 0.001)
    monkeypatch.setattr("relay.api.probes.PROBE_BURST", 3)
    async with running_node() as node:
        samples = await probed(page, [{"region": "a", "url": f"{node.url}/probe"}])
        assert len(samples["a"]) == 2
        assert node.probes.limited == 1


async def test_a_node_measures_a_browser_in_both_roles(page: Page, node: RunningNode) -> None:
    def assignment(name: str) -> dict[str, Any]:
        urls = {f"{door}_url": f"{node.url}/{door}/r/{name}" for door in ("whip", "whep")}
        return {"node": urls, "token": node.signer.token(name), "ice_servers": []}

    code = """async ([ana, bob]) => {
        const { publish, subscribe } = await import("/thalweg.js");
        const canvas = document.createElement("canvas");
        canvas.getContext("2d").fillRect(0, 0, 9, 9);
        await publish(ana, canvas.captureStream(5));
        await subscribe(bob, { audio: 1, video: 1 });
    }"""
    await page.evaluate(code, [assignment("ana"), assignment("bob")])

    def why_not_measured() -> str | None:
        rtts = {one.participant: one.rtt_ms for one in node.engine.participants()}
        known = [rtt for rtt in rtts.values() if rtt is not None and 0 < rtt < 50]
        return None if len(known) == 2 else f"round trips {rtts}"

    await eventually(why_not_measured, 10)
