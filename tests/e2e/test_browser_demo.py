import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.conftest import require
from tests.e2e.harness import Up
from tests.fakes.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]
ARGUMENTS = [
    "--no-sandbox",  # CI runs as root, where chromium has no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",  # mDNS names need a resolver that a container lacks
]
CALL_WITHIN_S = 40


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    chromium = require("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


async def open_page(browser: Browser, system: Up, name: str, place: str) -> tuple[Page, list[str]]:
    """Open the demo page in a profile of its own, as another person's; also return its console's errors."""
    page = await (await browser.new_context()).new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    query = {"room": "browsers", "place": place, "name": name, "autojoin": 1, "media": "test"}
    await page.goto(f"{system.facts['demo_url']}?{urlencode(query)}")
    return page, troubles


async def state(page: Page) -> Mapping[str, Any]:
    found: Mapping[str, Any] = await page.evaluate("() => window.thalwegDemo ?? {}")
    return found


async def why_not_seen(page: Page, participant: str) -> str | None:
    """Say what is missing until the page decodes the other one's picture and sound through one trunk hop."""
    found = await state(page)
    tiles = {tile["participant"]: tile for tile in found.get("tiles", [])}
    tile = tiles.get(participant)
    complete = tile and tile["videoFrames"] > 0 and tile["audioFrames"] > 0 and tile["hops"] == 1
    return None if complete else f"{participant} is not complete in {found}"


async def test_two_browsers_in_two_regions_see_and_hear_each_other(
    system: Up, browser: Browser
) -> None:
    ana, ana_troubles = await open_page(browser, system, "ana", "eu-frankfurt")
    ben, ben_troubles = await open_page(browser, system, "ben", "us-virginia")
    await eventually(lambda: why_not_seen(ana, "ben"), timeout=CALL_WITHIN_S)
    await eventually(lambda: why_not_seen(ben, "ana"), timeout=CALL_WITHIN_S)
    assert (await state(ana))["region"] == "eu-frankfurt"
    assert (await state(ben))["region"] == "us-virginia"

    before = {tile["participant"]: tile for tile in (await state(ana))["tiles"]}["ben"]
    await asyncio.sleep(2)
    after = {tile["participant"]: tile for tile in (await state(ana))["tiles"]}["ben"]
    assert after["videoFrames"] >= before["videoFrames"] + 10, "the picture moves"
    assert after["audioFrames"] > before["audioFrames"], "the sound goes on"
    assert ana_troubles + ben_troubles == []
