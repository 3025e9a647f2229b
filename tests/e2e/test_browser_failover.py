"""thalweg.js in a browser whose edge dies in mid-call."""

import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.conftest import require
from tests.e2e.harness import Up
from tests.fakes.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(180)]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
]
CALL_WITHIN_S = 40
AGAIN_WITHIN_S = 20
"""It takes about two seconds; a machine that also draws two browsers in software is given more."""

GONE_WITHIN_S = 10
"""Far less than an edge takes to notice by itself that a client is silent (RFC 7675: 30 s)."""


@pytest.fixture
def doomed() -> Iterator[Up]:
    """A system of this test's own, because the test kills a part of it."""
    with Up("--http-port", "0", "--demo-port", "0") as up:
        yield up


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    chromium = require("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


async def joined(browser: Browser, system: Up, name: str, place: str) -> Page:
    page = await (await browser.new_context()).new_page()
    query = {"room": "failover", "place": place, "name": name, "autojoin": 1, "media": "test"}
    await page.goto(f"{system.facts['demo_url']}?{urlencode(query)}")
    return page


async def state(page: Page) -> Mapping[str, Any]:
    found: Mapping[str, Any] = await page.evaluate("() => window.thalwegDemo")
    return found


async def frames(page: Page, participant: str) -> int:
    """Decoded pictures of a participant so far."""
    tiles = (await state(page))["tiles"]
    return sum(tile["videoFrames"] for tile in tiles if tile["participant"] == participant)


async def why_not_beyond(page: Page, participant: str, count: int) -> str | None:
    """Say what is missing until the page has decoded more than `count` pictures of the participant."""
    seen = await frames(page, participant)
    return None if seen > count else f"{participant}: {seen} pictures in {await state(page)}"


async def test_a_browser_finds_another_edge_when_its_own_is_killed(
    doomed: Up, browser: Browser
) -> None:
    ana = await joined(browser, doomed, "ana", "eu-frankfurt")
    ben = await joined(browser, doomed, "ben", "us-virginia")
    await eventually(lambda: why_not_beyond(ana, "ben", 0), timeout=CALL_WITHIN_S)
    await eventually(lambda: why_not_beyond(ben, "ana", 0), timeout=CALL_WITHIN_S)
    node = (await state(ben))["node"]

    os.kill(doomed.pids[node], signal.SIGKILL)
    await eventually(lambda: why_not_moved(ben, node), timeout=AGAIN_WITHIN_S)
    seen_by_ana, seen_by_ben = await frames(ana, "ben"), await frames(ben, "ana")
    await eventually(lambda: why_not_beyond(ana, "ben", seen_by_ana + 10), timeout=AGAIN_WITHIN_S)
    await eventually(lambda: why_not_beyond(ben, "ana", seen_by_ben + 10), timeout=AGAIN_WITHIN_S)
    await ana.get_by_text("The Virginia edge is gone.").wait_for()
    assert (await state(ana))["node"] == "eu-frankfurt-1", "nobody else had to move"


async def why_not_moved(page: Page, old_node: str) -> str | None:
    now = await state(page)
    moved = now["state"] == "connected" and now["node"] != old_node
    return None if moved else f"still {now['state']} at {now['node']}"


async def test_a_closed_tab_is_gone_at_once_without_a_control_plane(
    doomed: Up, browser: Browser
) -> None:
    ana = await joined(browser, doomed, "ana", "eu-frankfurt")
    ben = await joined(browser, doomed, "ben", "us-virginia")
    await eventually(lambda: why_not_beyond(ana, "ben", 0), timeout=CALL_WITHIN_S)
    await eventually(lambda: why_not_beyond(ben, "ana", 0), timeout=CALL_WITHIN_S)
    control_plane = doomed.pids["controlplane"]
    os.kill(control_plane, signal.SIGSTOP)
    try:
        await ben.goto("about:blank")
        await eventually(lambda: why_still_seen(ana, "ben"), timeout=GONE_WITHIN_S)
    finally:
        os.kill(control_plane, signal.SIGCONT)


async def why_still_seen(page: Page, participant: str) -> str | None:
    seen = await page.locator("#tiles .tile", has_text=participant).count()
    return f"{seen} tiles of {participant}" if seen else None
