"""A token begins one session at each door of a node; who overhears it later has nothing."""

import asyncio

import aiohttp
import pytest
from yarl import URL

from relay.api.tokens import CLOCK_SKEW_S
from relay.core.admission import UsedTokens
from relay.transport.clock import wall
from tests.relay.api.asking import SDP, assert_problem, bearer
from tests.relay.api.offers import PUBLISH, RECEIVE
from tests.relay.rtc import RunningNode

OFFERS = {"whip": PUBLISH, "whep": RECEIVE}


@pytest.mark.parametrize("door", OFFERS)
async def test_a_token_that_was_used_is_refused(
    node: RunningNode, http: aiohttp.ClientSession, door: str
) -> None:
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.post(f"/{door}/r/ana", data=OFFERS[door], headers=headers) as answer:
        assert answer.status == 201
        session = answer.headers["Location"].rpartition("/")[2]
    async with http.post(f"/{door}/r/ana", data=OFFERS[door], headers=headers) as answer:
        await assert_problem(answer, 401, "token_replayed")
        assert "join again" in (await answer.json(content_type=None))["hint"]
    assert node.engine.owner(session) is not None
    fresh = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.post(f"/{door}/r/ana", data=OFFERS[door], headers=fresh) as answer:
        assert answer.status == 201


async def test_the_same_token_opens_both_doors(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    for door, offer in OFFERS.items():
        async with http.post(f"/{door}/r/ana", data=offer, headers=headers) as answer:
            assert answer.status == 201


async def test_an_offer_that_was_refused_uses_nothing_up(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.post("/whip/r/ana", data="v=0", headers=headers) as answer:
        assert answer.status == 400
    async with http.post("/whip/r/ana", data=PUBLISH, headers=headers) as answer:
        assert answer.status == 201


async def test_an_offer_that_comes_drop_by_drop_does_not_outlive_the_memory_of_its_token(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    token = node.signer.token("ana", exp=int(wall()) - CLOCK_SKEW_S + 3)  # two seconds and more
    headers = {**SDP, **bearer(token)}
    async with http.post("/whip/r/ana", data=PUBLISH, headers=headers) as answer:
        assert answer.status == 201
    offer = PUBLISH.encode()
    url = URL(node.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /whip/r/ana HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: {len(offer)}"
    writer.write(f"{head}\r\nAuthorization: Bearer {token}\r\n\r\n".encode() + offer[:9])
    await asyncio.sleep(3.2)
    fresh = {**SDP, **bearer(node.signer.token("bo"))}
    async with http.post("/whep/r/bo", data=RECEIVE, headers=fresh) as answer:
        assert answer.status == 201  # and the node forgets what has ended
    assert len(node.state.used_tokens) == 1
    writer.write(offer[9:])
    answered = await asyncio.wait_for(reader.readuntil(b"}"), 5)
    writer.close()
    assert answered.startswith(b"HTTP/1.1 401 ")
    assert b"token_expired" in answered


async def test_of_two_at_once_one_begins(node: RunningNode, http: aiohttp.ClientSession) -> None:
    headers = {**SDP, **bearer(node.signer.token("ana"))}

    async def knock() -> int:
        async with http.post("/whep/r/ana", data=RECEIVE, headers=headers) as answer:
            return answer.status

    async with asyncio.TaskGroup() as group:
        knocks = [group.create_task(knock()) for _ in range(5)]
    assert sorted(one.result() for one in knocks) == [201, 401, 401, 401, 401]


async def test_a_node_that_can_remember_no_more_takes_nobody(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    node.state.used_tokens = UsedTokens(wall(), most=1)
    node.state.used_tokens.use("another", "whip", until=wall() + 60)
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.post("/whip/r/ana", data=PUBLISH, headers=headers) as answer:
        await assert_problem(answer, 503, "too_many_sessions")


async def test_a_token_from_before_a_restart_counts_as_used(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    node.state.used_tokens = UsedTokens(wall() + 2)
    async with http.post("/whip/r/ana", data=PUBLISH, headers=headers) as answer:
        await assert_problem(answer, 401, "token_replayed")
    headers = {**SDP, **bearer(node.signer.token("ana", iat=wall() + 2))}
    async with http.post("/whip/r/ana", data=PUBLISH, headers=headers) as answer:
        assert answer.status == 201


def test_what_has_ended_is_forgotten_first() -> None:
    used = UsedTokens(0, most=3)
    for name, end in (("b", 20.0), ("a", 10.0), ("c", 30.0), ("c", 30.0)):
        used.use(name, "whip", until=end)
    assert used.is_full(9.0)
    assert not used.is_full(10.5)
    assert [used.is_used(name, "whip", issued_at=1.0) for name in "abc"] == [False, True, True]
    assert not used.is_used("b", "whep", issued_at=1.0)
    assert not used.is_full(31.0)
    assert len(used) == 0
