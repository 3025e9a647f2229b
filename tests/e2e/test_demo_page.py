"""The demo page in a real browser, fed by a control plane that says what the test wants to see."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Route, async_playwright

from controlplane.cli.demo_site import DemoSite
from tests.conftest import require
from tests.fakes.control_plane import API_KEY, FakeControlPlane, fake_nodes

pytestmark = [pytest.mark.e2e, pytest.mark.browser]
TOPOLOGY = Path(__file__).parents[2] / "regions" / "demo.yaml"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NAMES_AND_LABELS = """() => {
  const boxes = (selector) => [...document.querySelectorAll(selector)]
    .map((element) => element.getBoundingClientRect().toJSON()).filter(({ width }) => width > 0);
  return { map: boxes("#map")[0], names: boxes("#map .person .name"), labels: boxes("#map .label rect") };
}"""
FRANKFURT, VIRGINIA, SINGAPORE = "eu-frankfurt", "us-virginia", "ap-singapore"


@pytest.fixture
async def control_plane() -> AsyncIterator[FakeControlPlane]:
    async with FakeControlPlane(fake_nodes()) as fake:
        yield fake


@pytest.fixture
async def site(control_plane: FakeControlPlane) -> AsyncIterator[DemoSite]:
    async with DemoSite(control_plane.url, API_KEY, TOPOLOGY) as site:
        yield site


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    chromium = require("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


async def open_page(browser: Browser, url: str, width: int = 1280) -> tuple[Page, list[str]]:
    """Open the page; also return what went wrong in it, the browser's complaints about its policy included."""
    page = await browser.new_page(viewport={"width": width, "height": 800})
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))

    def heard(message: ConsoleMessage) -> None:
        # The fake's edges do not exist; measuring them fails, which the page must survive.
        if message.type == "error" and "ERR_UNSAFE_PORT" not in message.text:
            troubles.append(message.text)

    page.on("console", heard)
    await page.goto(url)
    return page, troubles


def sit(
    control_plane: FakeControlPlane, participant: str, region: str, *, live: bool = True
) -> None:
    control_plane.rooms.setdefault("demo", {})[participant] = {
        "participant": participant,
        "role": "publisher",
        "node": f"{region}-1",
        "region": region,
        "epoch": 1,
        "live": live,
        "rtt_ms": 5.0,
        "rtt_source": "probe",
        "assigned_at": 0.0,
        "tracks": [{"id": "a"}, {"id": "v"}],
    }


def link(start: str, end: str, rtt_ms: float) -> dict[str, Any]:
    return {
        "from": f"{start}-1",
        "to": f"{end}-1",
        "from_region": start,
        "to_region": end,
        "state": "up",
        "tracks": ["a", "v"],
        "packets": 100,
        "repaired": 3,
        "lost": 3,
        "rtt_ms": rtt_ms,
    }


async def test_the_picture_and_its_table_say_the_same(
    control_plane: FakeControlPlane, site: DemoSite, browser: Browser
) -> None:
    sit(control_plane, "Ana", FRANKFURT)
    sit(control_plane, "Bo", VIRGINIA)
    control_plane.links = [link(FRANKFURT, VIRGINIA, 90), link(VIRGINIA, FRANKFURT, 90)]
    page, troubles = await open_page(browser, site.url)
    await page.locator(".label").wait_for()
    assert await page.locator("#map .edge").count() == 3
    assert await page.locator("#map .person").count() == 2
    assert await page.locator("#map .link.up").count() == 2
    assert await page.locator("#map .path").count() == 2, "what is possible, and not used"
    assert "90 ms · 6 packets repaired" in await page.locator(".label").text_content()  # type: ignore[operator]
    await page.locator(".twin summary").click()
    rows = await page.locator("#people-rows tr").all_inner_texts()
    assert [row.split("\t")[:2] for row in rows] == [["Ana", "Frankfurt"], ["Bo", "Virginia"]]
    assert await page.locator("#link-rows tr").count() == 2
    chosen = page.locator(".candidates .chosen")
    assert "Frankfurt" in await chosen.inner_text()
    assert "1 edge refused" in await chosen.inner_text()
    assert "full" in (await chosen.get_attribute("title") or "")
    assert "with 1 other in the room" in await page.locator(".decided").inner_text()
    await control_plane.emit(
        "node.lost", {"node": f"{SINGAPORE}-1", "region": SINGAPORE, "why": "x"}
    )
    await page.get_by_text("The Singapore edge is lost: x").wait_for()
    assert troubles == []


async def test_a_refused_join_says_why_and_gives_the_form_back(
    control_plane: FakeControlPlane, site: DemoSite, browser: Browser
) -> None:
    control_plane.refusal = (451, {"code": "residency-unsatisfied", "detail": "no region may"})
    page, _ = await open_page(browser, f"{site.url}?place={SINGAPORE}&name=Ana%20Mü")
    await page.get_by_role("button", name="Join the room").click()
    await page.get_by_role("alert").filter(has_text="no region may").wait_for()
    assert await page.locator("#join-form").is_visible()
    state = await page.evaluate("window.thalwegDemo")
    assert (state["joined"], state["error"]["code"]) == (False, "residency-unsatisfied")
    [asked] = control_plane.joins
    nearest = min(asked["probes"], key=lambda probe: probe["rtt_ms"])
    assert nearest["region"] == SINGAPORE


async def test_the_page_can_be_used_with_the_keyboard(site: DemoSite, browser: Browser) -> None:
    page, troubles = await open_page(browser, site.url)
    await page.locator("input[name=place]").first.focus()
    await page.keyboard.press("ArrowRight")
    assert await page.locator("input[name=place]:checked").get_attribute("value") == VIRGINIA
    href = await page.locator("#second-tab").get_attribute("href")
    assert href == f"/?room=demo&place={SINGAPORE}"
    assert troubles == []


async def test_nothing_sticks_out_of_a_narrow_window(
    control_plane: FakeControlPlane, site: DemoSite, browser: Browser
) -> None:
    for name, region in (("Ana", FRANKFURT), ("Bo", VIRGINIA), ("Cleo", SINGAPORE)):
        sit(control_plane, name, region)
    control_plane.links = [link(FRANKFURT, SINGAPORE, 162)]
    page, troubles = await open_page(browser, site.url, width=400)
    await page.locator(".label").wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 400
    assert troubles == []


async def test_an_empty_seat_is_drawn_hollow_and_not_counted(
    control_plane: FakeControlPlane, site: DemoSite, browser: Browser
) -> None:
    sit(control_plane, "ana", FRANKFURT, live=False)
    sit(control_plane, "Bo", VIRGINIA)
    page, troubles = await open_page(browser, site.url)
    await page.get_by_text("1 person in this room already").wait_for()
    assert await page.locator("#map .person").count() == 2
    hollow = await page.locator("#map .person.absent").text_content()
    assert hollow == "Aana · not connected"
    label = await page.locator("#map svg").get_attribute("aria-label")
    assert label is not None
    assert label.startswith("1 participant on")
    # ana is Ana's name already.
    await page.wait_for_function("document.querySelector('#name').value === 'Cleo'")
    assert troubles == []


async def test_a_control_plane_that_goes_is_told_and_comes_back(
    control_plane: FakeControlPlane, site: DemoSite, browser: Browser
) -> None:
    sit(control_plane, "Ana", FRANKFURT)
    sit(control_plane, "Bo", VIRGINIA)
    control_plane.links = [link(FRANKFURT, VIRGINIA, 90), link(VIRGINIA, FRANKFURT, 90)]
    page, _ = await open_page(browser, site.url)
    await page.locator("#map .edge.serving").first.wait_for()
    refused: list[str] = []

    async def refuse(route: Route) -> None:
        refused.append(route.request.url)
        problem = {"code": "control-plane-away", "detail": "the control plane does not answer"}
        await route.fulfill(status=503, json=problem)

    await page.route("**/signal/**", refuse)
    guide = page.locator("#guide")
    await guide.filter(has_text="The control plane does not answer: this picture is of").wait_for()
    assert "The call goes on" not in await guide.inner_text(), "this tab is in no call"
    await page.locator("#map svg.stale").wait_for()
    assert await page.locator("#map .edge.serving").count() == 0
    names = await page.locator("#map .flow").evaluate_all(
        "flows => flows.map((flow) => getComputedStyle(flow).animationName)"
    )
    assert set(names) == {"none"}
    await page.wait_for_timeout(6000)
    looks = [url for url in refused if url.endswith("/signal/nodes")]
    assert len(looks) <= 4, "it backs off"
    await page.unroute("**/signal/**")
    await page.locator("#map .edge.serving").first.wait_for(timeout=10_000)
    await page.locator("#map svg:not(.stale)").wait_for()


async def test_a_fresh_page_without_a_control_plane_says_so(browser: Browser) -> None:
    async with DemoSite("http://127.0.0.1:1", API_KEY, TOPOLOGY) as site:
        page, _ = await open_page(browser, site.url)
        await page.locator("#guide").filter(has_text="The control plane does not answer").wait_for()
        assert await page.locator("#map .edge.unknown").count() == 3
        await page.get_by_role("button", name="Join the room").click()
        await page.get_by_role("alert").filter(has_text="does not answer").wait_for()
        text = await page.locator("body").inner_text()
    assert "Error" not in text


async def test_no_name_on_the_map_is_cut_off_or_covered(
    control_plane: FakeControlPlane, site: DemoSite, browser: Browser
) -> None:
    for name, region in (("Anastasia", FRANKFURT), ("Bo", VIRGINIA), ("Cleo", SINGAPORE)):
        sit(control_plane, name, region)
    control_plane.links = [link(FRANKFURT, VIRGINIA, 90), link(VIRGINIA, FRANKFURT, 90)]
    page, _ = await open_page(browser, site.url)
    await page.locator(".label").wait_for()
    for width in (1280, 700):
        await page.set_viewport_size({"width": width, "height": 800})
        await page.wait_for_timeout(300)
        found = await page.evaluate(NAMES_AND_LABELS)
        for box in found["names"]:
            assert box["left"] >= found["map"]["left"], width
            assert box["right"] <= found["map"]["right"], width
            for other in found["labels"]:
                apart = (
                    box["right"] <= other["left"]
                    or other["right"] <= box["left"]
                    or box["bottom"] <= other["top"]
                    or other["bottom"] <= box["top"]
                )
                assert apart, (width, box, other)
