import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from controlplane.cli.demo_signalling import concerns, pretended_probes
from controlplane.cli.demo_site import DemoSite
from controlplane.core.model import LinkSeed, Location, Region, RegionId, Topology
from controlplane.errors import InvalidInputError
from tests.fakes.control_plane import API_KEY, FakeControlPlane, fake_nodes, read_json

TOPOLOGY = Path(__file__).parents[2] / "regions" / "demo.yaml"
JOIN = {"room": "r", "participant": "ana", "session": "s1", "place": "us-virginia"}


@pytest.fixture
async def control_plane() -> AsyncIterator[FakeControlPlane]:
    async with FakeControlPlane(fake_nodes()) as fake:
        yield fake


@pytest.fixture
async def site(control_plane: FakeControlPlane) -> AsyncIterator[DemoSite]:
    async with DemoSite(control_plane.url, API_KEY, TOPOLOGY) as site:
        yield site


@pytest.fixture
async def http(site: DemoSite) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(site.url) as session:
        yield session


async def read_events(response: aiohttp.ClientResponse, n: int) -> list[tuple[int, str, object]]:
    """Read n events from a stream: (id, type, data)."""
    events: list[tuple[int, str, object]] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(5):
        while len(events) < n:
            line = (await response.content.readline()).decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}
    return events


# --- the page -------------------------------------------------------------------------------------


async def test_the_page_and_its_modules_are_served(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as page:
        assert page.status == 200
        assert page.content_type == "text/html"
        text = await page.text()
    for path in ("/demo.js", "/demo.css", "/thalweg.js", "/favicon.svg"):
        async with http.get(path) as part:
            assert part.status == 200, path
    assert "/demo.js" in text
    assert API_KEY not in text


async def test_the_page_may_only_run_its_own_scripts(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as page:
        policy = page.headers["Content-Security-Policy"]
        text = await page.text()
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "style=" not in text, "the policy forbids inline styles"
    assert " on" not in {word[:3] for word in text.split("<")}, "and inline handlers"


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/demo/", "/index.html", "/signal/"])
async def test_other_paths_are_problems(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as answer:
        assert answer.status == 404
        assert answer.content_type == "application/problem+json"
        assert (await read_json(answer))["code"] == "path-unknown"


async def test_another_host_name_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.get("/signal/nodes", headers={"Host": "rebound.example:80"}) as answer:
        assert answer.status == 403
        assert (await read_json(answer))["code"] == "foreign-host"


async def test_the_world_is_the_topology(http: aiohttp.ClientSession) -> None:
    async with http.get("/signal/world") as answer:
        world = await read_json(answer)
    assert {region["title"] for region in world["regions"]} == {
        "Frankfurt",
        "Virginia",
        "Singapore",
    }
    assert {"between": ["eu-frankfurt", "us-virginia"], "rtt_ms": 90} in world["links"]


# --- joining --------------------------------------------------------------------------------------


async def test_a_join_carries_the_pretended_probes_of_the_place(
    http: aiohttp.ClientSession, control_plane: FakeControlPlane
) -> None:
    async with http.post("/signal/join", json=JOIN | {"exclude_nodes": ["x"]}) as answer:
        assert answer.status == 201
        assignment = await read_json(answer)
    assert assignment["node"]["region"] == "us-virginia"
    [asked] = control_plane.joins
    probes = {probe["region"]: set(probe["rtt_ms"]) for probe in asked["probes"]}
    assert probes == {"us-virginia": {5.0}, "eu-frankfurt": {95.0}, "ap-singapore": {229.0}}
    assert asked["session"] == "s1"
    assert asked["exclude_nodes"] == ["x"]
    assert API_KEY not in json.dumps(assignment)


async def test_the_room_shows_the_place_that_a_participant_pretends(
    http: aiohttp.ClientSession, control_plane: FakeControlPlane
) -> None:
    control_plane.nodes = [node for node in fake_nodes() if node["region"] == "eu-frankfurt"]
    async with http.post("/signal/join", json=JOIN):
        pass
    async with http.get("/signal/room/r") as answer:
        [ana] = (await read_json(answer))["participants"]
    assert (ana["region"], ana["place"]) == ("eu-frankfurt", "us-virginia")
    async with http.post("/signal/leave", json={"room": "r", "participant": "ana"}) as answer:
        assert answer.status == 204
    async with http.get("/signal/room/r") as answer:
        assert (await read_json(answer))["participants"] == []


async def test_a_refusal_of_the_control_plane_reaches_the_page_unchanged(
    http: aiohttp.ClientSession, control_plane: FakeControlPlane
) -> None:
    control_plane.refusal = (503, {"code": "no-capacity", "status": 503})
    async with http.post("/signal/join", json=JOIN) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "3"
        assert answer.content_type == "application/problem+json"
        assert (await read_json(answer))["code"] == "no-capacity"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (JOIN | {"place": "atlantis"}, 400, "place-unknown"),
        (JOIN | {"session": 7}, 400, "body-invalid"),
        (JOIN | {"room": "../nodes"}, 400, "bad-room-id"),
        (JOIN | {"participant": ".."}, 400, "bad-participant-id"),
        (JOIN | {"exclude_nodes": ["n"] * 17}, 400, "body-invalid"),
        (["not", "an", "object"], 400, "body-invalid"),
        (JOIN | {"session": "x" * 70_000}, 413, "body-too-large"),
    ],
)
async def test_bad_joins_are_refused_before_the_control_plane_hears_of_them(
    http: aiohttp.ClientSession,
    control_plane: FakeControlPlane,
    body: object,
    status: int,
    code: str,
) -> None:
    async with http.post("/signal/join", json=body) as answer:
        assert (answer.status, (await read_json(answer))["code"]) == (status, code)
    assert control_plane.joins == []


@pytest.mark.parametrize("bad", ["..", ".", "../nodes", "a/b", "a?b", "a#b", "a%2fb", "a\r\nb"])
async def test_no_id_reaches_another_path_of_the_control_plane(
    site: DemoSite, http: aiohttp.ClientSession, control_plane: FakeControlPlane, bad: str
) -> None:
    """The proxies hold the API key: what stands in their paths must stay one segment."""
    control_plane.rooms["other"] = {"victim": {}}
    segment = quote(bad, safe="").replace(".", "%2E")
    for method, path, body in (
        ("GET", f"/signal/room/{segment}", None),
        ("GET", f"/signal/room/{segment}/decision/ana", None),
        ("GET", f"/signal/room/r/decision/{segment}", None),
        ("POST", "/signal/leave", {"room": bad, "participant": "ana"}),
        ("POST", "/signal/leave", {"room": "r", "participant": bad}),
        ("POST", "/signal/leave", {"room": "r", "participant": "../../other/participants/victim"}),
        ("POST", "/signal/join", JOIN | {"room": bad}),
        ("POST", "/signal/join", JOIN | {"participant": bad}),
    ):
        url = URL(site.url.rstrip("/") + path, encoded=True)
        async with http.request(method, url, json=body) as answer:
            assert answer.status in {400, 404}, path
            code = (await read_json(answer))["code"]
            assert code in {"bad-room-id", "bad-participant-id", "path-unknown"}, path
    assert control_plane.joins == []
    assert control_plane.rooms == {"other": {"victim": {}}}


async def test_a_form_of_another_origin_cannot_join(http: aiohttp.ClientSession) -> None:
    """Without a preflight, a foreign page can only send text/plain or a form."""
    headers = {"Content-Type": "text/plain"}
    async with http.post("/signal/join", data=json.dumps(JOIN), headers=headers) as answer:
        assert answer.status == 415
    async with http.post(
        "/signal/join", data="{", headers={"Content-Type": "application/json"}
    ) as a:
        assert (a.status, (await read_json(a))["code"]) == (400, "json-malformed")


async def test_a_dead_control_plane_is_a_problem_with_a_code() -> None:
    async with (
        DemoSite("http://127.0.0.1:1", API_KEY, TOPOLOGY) as site,
        aiohttp.ClientSession(site.url) as http,
    ):
        for path in ("/signal/nodes", "/signal/events?room=r"):
            async with http.get(path) as answer:
                assert answer.status == 503
                problem = await read_json(answer)
                assert problem["code"] == "control-plane-away"
                assert problem["detail"] == "the control plane does not answer", "no class names"


async def test_decisions_nodes_and_probe_plans_pass_through(
    http: aiohttp.ClientSession, control_plane: FakeControlPlane
) -> None:
    async with http.post("/signal/join", json=JOIN):
        pass
    async with http.get("/signal/room/r/decision/ana") as answer:
        assert (await read_json(answer))["region"] == "us-virginia"
    async with http.get("/signal/nodes") as answer:
        assert len((await read_json(answer))["nodes"]) == 3
    for asked in ({}, {"room": "r"}):
        async with http.post("/signal/probe-plan", json=asked) as answer:
            assert len((await read_json(answer))["regions"]) == 3
    assert control_plane.plans == [{}, {"room": "r"}]
    async with http.post("/signal/probe-plan", json={"room": "not a room"}) as answer:
        assert answer.status == 400


# --- events ---------------------------------------------------------------------------------------


async def test_events_of_the_room_and_of_nodes_come_through(
    http: aiohttp.ClientSession, control_plane: FakeControlPlane
) -> None:
    async with http.get("/signal/events", params={"room": "r"}) as stream:
        assert stream.content_type == "text/event-stream"
        await control_plane.emit("participant.assigned", {"room": "other", "participant": "x"})
        await control_plane.emit("participant.assigned", {"room": "r", "participant": "ana"})
        await control_plane.emit("node.lost", {"node": "n", "region": "g", "why": "silent"})
        events = await read_events(stream, 2)
    assert events == [
        (2, "participant.assigned", {"room": "r", "participant": "ana"}),
        (3, "node.lost", {"node": "n", "region": "g", "why": "silent"}),
    ]


@pytest.mark.parametrize(
    "resume", [{"headers": {"Last-Event-ID": "1"}}, {"params": {"after": "1"}}]
)
async def test_events_resume(
    http: aiohttp.ClientSession,
    control_plane: FakeControlPlane,
    resume: dict[str, dict[str, str]],
) -> None:
    for name in ("ana", "bo"):
        await control_plane.emit("participant.assigned", {"room": "", "participant": name})
    async with http.get("/signal/events", **resume) as stream:  # type: ignore[arg-type]
        [(number, _, data)] = await read_events(stream, 1)
    assert (number, data) == (2, {"room": "", "participant": "bo"})
    assert control_plane.resumed_after == ["1"]


async def test_a_stopping_site_ends_its_streams(control_plane: FakeControlPlane) -> None:
    site = DemoSite(control_plane.url, API_KEY, TOPOLOGY)
    await site.start()
    async with aiohttp.ClientSession(site.url) as http, http.get("/signal/events") as stream:
        async with asyncio.timeout(3):
            await site.stop()
            with contextlib.suppress(aiohttp.ClientPayloadError):  # cut off: EventSource comes back
                await stream.content.read()


async def test_streams_are_bounded(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.cli.demo_signalling.MAX_STREAMS", 1)
    async with http.get("/signal/events") as first, http.get("/signal/events") as second:
        assert (first.status, second.status) == (200, 503)


async def test_a_taken_port_is_an_error_and_leaves_nothing_open(site: DemoSite) -> None:
    taken = int(site.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        await DemoSite("http://127.0.0.1:1", API_KEY, TOPOLOGY, port=taken).start()


# --- pure parts -----------------------------------------------------------------------------------


def topology() -> Topology:
    a, b, c = RegionId("a"), RegionId("b"), RegionId("c")
    regions = {r: Region(id=r, title=r, location=Location(0.0, 0.0)) for r in (a, b, c)}
    return Topology(regions, links=(LinkSeed((a, b), rtt_ms=40.0), LinkSeed((a, c))))


def test_what_nobody_declared_is_not_pretended() -> None:
    assert pretended_probes(topology(), RegionId("a")) == {"a": 5.0, "b": 45.0}
    assert pretended_probes(topology(), RegionId("b")) == {"b": 5.0, "a": 45.0}


def test_a_place_that_is_no_region_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInputError) as refused:
        pretended_probes(topology(), RegionId("z"))
    assert "a, b, c" in refused.value.hint


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'event: x\ndata: {"room": "r"}\n\n', True),
        (b'event: x\ndata: {"room": "q"}\n\n', False),
        (b'event: node.lost\ndata: {"node": "n"}\n\n', True),
        (b": a comment\n\n", True),
        (b'data: {"room":\ndata: "q"}\n\n', False),
    ],
)
def test_which_events_concern_a_room(event: bytes, expected: bool) -> None:
    assert concerns(event, "r") is expected
