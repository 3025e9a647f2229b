"""A session that began: trickle, look at its slots, end it; and nobody else's hands on it."""

import asyncio
import json
from collections.abc import Callable

import aiohttp
import pytest

from relay.transport.clock import wall
from tests.relay.api.asking import SDP, assert_problem, bearer
from tests.relay.api.offers import PUBLISH, RECEIVE
from tests.relay.rtc import RunningNode, Signer

FRAGMENT = "a=ice-ufrag:abcd\r\na=ice-pwd:x\r\nm=audio 9 x 0\r\na=mid:0\r\na=end-of-candidates\r\n"
TRICKLE = {"Content-Type": "application/trickle-ice-sdpfrag"}

REQUESTS = ["PATCH", "DELETE", "GET"]


def path(method: str, session: str) -> str:
    return f"{session}/slots" if method == "GET" else session


@pytest.fixture
async def session(node: RunningNode, http: aiohttp.ClientSession) -> str:
    """The path of a WHEP session of ana's."""
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.post("/whep/r/ana", data=RECEIVE, headers=headers) as answer:
        assert answer.status == 201
        return answer.headers["Location"]


STRANGERS: dict[str, tuple[Callable[[Signer], dict[str, str]], int, str]] = {
    "nobody": (lambda _: {}, 401, "token_missing"),
    "garbage": (lambda _: bearer("x.y.z"), 401, "token_malformed"),
    "another signer": (lambda _: bearer(Signer().token("ana")), 401, "token_forged"),
    "another participant": (lambda s: bearer(s.token("bob")), 404, "no_such_session"),
    "the same name in another room": (lambda s: bearer(s.token("ana", room="x")), 404, "no_such_session"),
    "the same participant, of another seat": (lambda s: bearer(s.token("ana", epoch=2)), 404, "no_such_session"),
    "a token for another node": (lambda s: bearer(s.token("ana", node="n2")), 403, "token_for_other_node"),
}  # fmt: skip


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize(("who", "status", "code"), STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_gets_nothing_and_learns_nothing(
    node: RunningNode,
    http: aiohttp.ClientSession,
    session: str,
    method: str,
    who: Callable[[Signer], dict[str, str]],
    status: int,
    code: str,
) -> None:
    headers = {**TRICKLE, **who(node.signer)}
    async with http.request(
        method, path(method, session), data=FRAGMENT, headers=headers
    ) as answer:
        await assert_problem(answer, status, code)
    assert len(node.engine.participants()) == 1


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_session_that_is_not_there(
    node: RunningNode, http: aiohttp.ClientSession, method: str
) -> None:
    headers = {**TRICKLE, **bearer(node.signer.token("ana"))}
    async with http.request(method, path(method, "/sessions/nothing"), headers=headers) as answer:
        await assert_problem(answer, 404, "no_such_session")


async def test_a_token_that_expired_is_good_for_its_running_session(
    node: RunningNode, http: aiohttp.ClientSession, session: str
) -> None:
    headers = bearer(node.signer.token("ana", exp=wall() - 3600))
    async with http.patch(session, data=FRAGMENT, headers={**TRICKLE, **headers}) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    async with http.delete(session, headers=headers) as answer:
        assert answer.status == 200
        assert await answer.read()  # FFmpeg wants a body
    async with http.delete(session, headers=headers) as answer:
        await assert_problem(answer, 404, "no_such_session")
    assert node.engine.participants() == []
    assert node.engine.port._by_ufrag == {}


async def test_candidates_of_another_type_are_refused(
    node: RunningNode, http: aiohttp.ClientSession, session: str
) -> None:
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.patch(session, data=FRAGMENT, headers=headers) as answer:
        await assert_problem(answer, 415, "wrong_content_type")


async def test_the_slots_are_told_at_once(
    node: RunningNode, http: aiohttp.ClientSession, session: str
) -> None:
    headers = bearer(node.signer.token("ana"))
    async with http.get(f"{session}/slots", headers=headers) as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        assert stream.headers["Cache-Control"] == "no-store"
        assert stream.headers["Access-Control-Allow-Origin"] == "*"
        async with asyncio.timeout(5):
            event = (await stream.content.readuntil(b"\n\n")).decode()
    assert event.startswith("event: slots\ndata: ")
    empty = {"participant": None, "track": None, "hops": 0, "origin_node": None}
    assert json.loads(event.partition("data: ")[2]) == {
        "slots": [
            {"mid": mid, "kind": kind, **empty}
            for mid, kind in (("0", "video"), ("1", "video"), ("2", "audio"))
        ]
    }


async def test_a_session_that_publishes_has_no_slots(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    headers = bearer(node.signer.token("ana"))
    async with http.post("/whip/r/ana", data=PUBLISH, headers={**SDP, **headers}) as answer:
        location = answer.headers["Location"]
    async with http.get(f"{location}/slots", headers=headers) as stream:
        assert (stream.status, await stream.read()) == (200, b"")


async def test_one_participant_has_so_many_subscriptions_and_no_more(
    node: RunningNode, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.engines.embedded.engine.MAX_SUBSCRIPTIONS", 3)
    begun = []
    for _ in range(5):
        headers = {**bearer(node.signer.token("ana")), **SDP}
        async with http.post("/whep/r/ana", data=RECEIVE, headers=headers) as answer:
            begun.append(answer.headers["Location"].rpartition("/")[2])
    assert [node.engine.owner(session) is not None for session in begun] == [False] * 2 + [True] * 3
