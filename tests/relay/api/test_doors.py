"""WHIP and WHEP, door by door and fault by fault: a problem with a stable code, and nothing half-created."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
import jwt
import pytest

from relay.api.tokens import CLOCK_SKEW_S, MAX_TOKEN
from relay.core.sdp import MAX_SIZE
from relay.engines.base import Identity
from relay.transport.clock import wall
from tests.relay.api.asking import SDP, assert_problem, bearer
from tests.relay.api.offers import PUBLISH, RECEIVE, offer
from tests.relay.rtc import RunningNode, Signer

OFFERS = {"whip": PUBLISH, "whep": RECEIVE}


def assert_nothing_here(node: RunningNode) -> None:
    """Nothing is left of an attempt: no participant, session, port entry, track or epoch."""
    engine = node.engine
    assert engine.participants() == []
    assert engine._sessions == {}
    assert (engine.port._by_ufrag, engine.port._addresses, engine.port._by_address) == ({}, {}, {})
    assert list(node.rooms.all()) == []
    assert node.state.admission._epochs == {}
    assert len(node.state.used_tokens) == 0


def with_alg_none(signer: Signer) -> str:
    claims = jwt.decode(signer.token("ana"), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none", headers={"kid": "k1"})


def with_hs256(signer: Signer) -> str:
    claims = jwt.decode(signer.token("ana"), options={"verify_signature": False})
    return jwt.encode(claims, signer.public, algorithm="HS256", headers={"kid": "k1"})


def with_another_kid(signer: Signer) -> str:
    claims = jwt.decode(signer.token("ana"), options={"verify_signature": False})
    return jwt.encode(claims, signer._key, algorithm="EdDSA", headers={"kid": "k2"})


def without_kid(signer: Signer) -> str:
    claims = jwt.decode(signer.token("ana"), options={"verify_signature": False})
    return jwt.encode(claims, signer._key, algorithm="EdDSA")


def with_a_changed_claim(signer: Signer) -> str:
    head, _, signature = signer.token("ana").split(".")
    return ".".join((head, signer.token("ana", epoch=9).split(".")[1], signature))


Fault = tuple[Callable[[Signer], dict[str, str]], int, str]
TOKENS: dict[str, Fault] = {
    "no token": (lambda _: {}, 401, "token_missing"),
    "another scheme": (lambda _: {"Authorization": "Basic YTpi"}, 401, "token_missing"),
    "an empty token": (lambda _: {"Authorization": "Bearer "}, 401, "token_missing"),
    "garbage": (lambda _: bearer("garbage"), 401, "token_malformed"),
    "dots": (lambda _: bearer("..."), 401, "token_malformed"),
    "not ASCII": (lambda _: bearer("tökèn.☃.x"), 401, "token_malformed"),
    "too long": (lambda _: bearer("a" * (MAX_TOKEN + 1)), 401, "token_malformed"),
    "alg none": (lambda s: bearer(with_alg_none(s)), 401, "token_malformed"),
    "HS256 with the public key": (lambda s: bearer(with_hs256(s)), 401, "token_malformed"),
    "unknown kid": (lambda s: bearer(with_another_kid(s)), 401, "token_unknown_key"),
    "no kid": (lambda s: bearer(without_kid(s)), 401, "token_unknown_key"),
    "another signer": (lambda _: bearer(Signer().token("ana")), 401, "token_forged"),
    "a changed claim": (lambda s: bearer(with_a_changed_claim(s)), 401, "token_forged"),
    "expired": (
        lambda s: bearer(s.token("ana", exp=wall() - CLOCK_SKEW_S - 1)),
        401,
        "token_expired",
    ),
    "not yet valid": (lambda s: bearer(s.token("ana", nbf=wall() + 60)), 401, "token_malformed"),
    "one that lives too long": (
        lambda s: bearer(s.token("ana", exp=wall() + 90)),
        401,
        "token_malformed",
    ),
    "no id": (lambda s: bearer(s.token("ana", jti=None)), 401, "token_malformed"),
    "an id of a number": (lambda s: bearer(s.token("ana", jti=7)), 401, "token_malformed"),
    "an id without end": (lambda s: bearer(s.token("ana", jti="x" * 65)), 401, "token_malformed"),
    "another issuer": (lambda s: bearer(s.token("ana", iss="somebody")), 401, "token_malformed"),
    "no epoch": (lambda s: bearer(s.token("ana", epoch=None)), 401, "token_malformed"),
    "an epoch of true": (lambda s: bearer(s.token("ana", epoch=True)), 401, "token_malformed"),
    "an epoch of zero": (lambda s: bearer(s.token("ana", epoch=0)), 401, "token_malformed"),
    "an unknown role": (lambda s: bearer(s.token("ana", role="admin")), 401, "token_malformed"),
    "another node": (lambda s: bearer(s.token("ana", node="n2")), 403, "token_for_other_node"),
    "another participant": (lambda s: bearer(s.token("bob")), 403, "token_for_other_participant"),
    "another room": (
        lambda s: bearer(s.token("ana", room="x")),
        403,
        "token_for_other_participant",
    ),
}


@pytest.mark.parametrize("door", OFFERS)
@pytest.mark.parametrize(("headers", "status", "code"), TOKENS.values(), ids=TOKENS)
async def test_a_bad_token(
    node: RunningNode,
    http: aiohttp.ClientSession,
    door: str,
    headers: Callable[[Signer], dict[str, str]],
    status: int,
    code: str,
) -> None:
    sent = {**SDP, **headers(node.signer)}
    async with http.post(f"/{door}/r/ana", data=OFFERS[door], headers=sent) as answer:
        await assert_problem(answer, status, code)
    assert_nothing_here(node)


async def test_bytes_that_are_no_text_are_no_token(node: RunningNode) -> None:
    host, port = node.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /whip/r/ana HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n"
        b"Content-Type: application/sdp\r\nAuthorization: Bearer \xff\xfe\xfd\r\n\r\n"
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"token_malformed" in answer


@dataclass(frozen=True)
class BodyFault:
    """A body, and what is said of it at each door."""

    body: str | bytes
    status: int
    whip: str
    whep: str = ""
    content_type: str = "application/sdp"

    def code(self, door: str) -> str:
        return self.whip if door == "whip" else self.whep or self.whip


VP9, G722 = "a=rtpmap:96 VP9/90000", "a=rtpmap:96 G722/8000"
H264_MODE_0 = ("a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=0;profile-level-id=42e01f")
NO_MEDIA = offer().partition("m=")[0]
BODIES = {
    "nothing": BodyFault("", 400, "sdp_malformed"),
    "JSON": BodyFault("{}", 400, "sdp_malformed"),
    "not UTF-8": BodyFault(b"v=0\r\n\xff", 400, "sdp_malformed"),
    "broken SDP": BodyFault(PUBLISH.replace("a=", "a"), 400, "sdp_malformed"),
    "an rtpmap without a rate": BodyFault(offer("a=rtpmap:96 VP8"), 400, "sdp_malformed"),
    "no media": BodyFault(NO_MEDIA, 400, "sdp_no_media"),
    "no ICE": BodyFault(PUBLISH.replace("ice-", "x-"), 400, "sdp_no_ice"),
    "no DTLS": BodyFault(PUBLISH.replace("fingerprint", "x"), 400, "sdp_no_dtls"),
    "no bundle": BodyFault(PUBLISH.replace("BUNDLE", "LS"), 400, "sdp_not_bundled"),
    "only VP9": BodyFault(offer(VP9), 422, "unsupported_codec"),
    "only G722": BodyFault(offer(G722), 422, "unsupported_codec"),
    "only H264 of mode 0": BodyFault(offer(*H264_MODE_0), 422, "unsupported_codec"),
    "VP8 at a clock rate of its own": BodyFault(offer("a=rtpmap:96 VP8/1000"), 422, "unsupported_codec"),
    "no codec at all": BodyFault(offer(), 422, "unsupported_codec"),
    "nothing that flows": BodyFault(
        offer("a=rtpmap:96 VP8/90000", direction="inactive"), 422, "no_media_to_publish", "no_slots_offered"
    ),
    "a rejected line": BodyFault(
        offer("a=rtpmap:96 VP8/90000").replace("m=video 9", "m=video 0"), 422, "no_media_to_publish", "no_slots_offered"
    ),
    "only data": BodyFault(
        offer().replace("video 9 UDP/TLS/RTP/SAVPF 96", "application 9 UDP/DTLS/SCTP webrtc-datachannel"),
        422, "no_media_to_publish", "no_slots_offered",
    ),
    "another content type": BodyFault(PUBLISH, 415, "wrong_content_type", content_type="application/json"),
    "no content type": BodyFault(PUBLISH, 415, "wrong_content_type", content_type=""),
    "too large": BodyFault(PUBLISH + "a=x\r\n" * MAX_SIZE, 413, "too_large"),
}  # fmt: skip


@pytest.mark.parametrize("door", OFFERS)
@pytest.mark.parametrize("fault", BODIES.values(), ids=BODIES)
async def test_a_bad_body(
    node: RunningNode, http: aiohttp.ClientSession, door: str, fault: BodyFault
) -> None:
    headers = {**bearer(node.signer.token("ana")), "Content-Type": fault.content_type}
    async with http.post(f"/{door}/r/ana", data=fault.body, headers=headers) as answer:
        await assert_problem(answer, fault.status, fault.code(door))
    assert_nothing_here(node)


async def test_an_encoded_body(node: RunningNode, http: aiohttp.ClientSession) -> None:
    headers = {**bearer(node.signer.token("ana")), **SDP, "Content-Encoding": "gzip"}
    async with http.post("/whip/r/ana", data=b"no gzip", headers=headers) as answer:
        await assert_problem(answer, 415, "wrong_content_encoding")
    assert_nothing_here(node)


@pytest.mark.parametrize(
    ("door", "direction", "code"),
    [("whip", "recvonly", "no_media_to_publish"), ("whep", "sendonly", "no_slots_offered")],
)
async def test_the_wrong_direction(
    node: RunningNode, http: aiohttp.ClientSession, door: str, direction: str, code: str
) -> None:
    body = offer("a=rtpmap:96 VP8/90000", direction=direction)
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.post(f"/{door}/r/ana", data=body, headers=headers) as answer:
        await assert_problem(answer, 422, code)
    assert_nothing_here(node)


async def test_a_viewer_may_not_publish(node: RunningNode, http: aiohttp.ClientSession) -> None:
    headers = {**SDP, **bearer(node.signer.token("ana", role="viewer"))}
    async with http.post("/whip/r/ana", data=PUBLISH, headers=headers) as answer:
        await assert_problem(answer, 403, "viewer_may_not_publish")
    assert_nothing_here(node)
    async with http.post("/whep/r/ana", data=RECEIVE, headers=headers) as answer:
        assert answer.status == 201


@pytest.mark.parametrize("door", OFFERS)
@pytest.mark.parametrize("why", ["node_draining", "stopping", "node_full"])
async def test_a_node_that_takes_nobody(
    node: RunningNode, http: aiohttp.ClientSession, door: str, why: str
) -> None:
    node.state.draining = why == "node_draining"
    node.state.stopping = why == "stopping"
    if why == "node_full":
        node.state.capacity = 0
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.post(f"/{door}/r/ana", data=OFFERS[door], headers=headers) as answer:
        await assert_problem(answer, 503, "node_full" if why == "node_full" else "node_draining")
        assert "exclude_nodes" in (await answer.json(content_type=None))["hint"]
    assert_nothing_here(node)


async def test_those_who_are_here_stay_welcome(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    node.state.capacity = 1
    headers = {**SDP, **bearer(node.signer.token("ana"))}
    async with http.post("/whip/r/ana", data=PUBLISH, headers=headers) as answer:
        assert answer.status == 201
    node.state.draining = True
    async with http.post("/whep/r/ana", data=RECEIVE, headers=headers) as answer:
        assert answer.status == 201
    [status] = node.engine.participants()
    assert (status.participant, status.slots, len(status.tracks)) == ("ana", 3, 2)


async def test_the_capacity_holds_when_all_come_at_once(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    """Everybody's token is good before the first body has come: the limit is looked at after."""
    node.state.capacity = 2
    begin = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield RECEIVE[:100].encode()
        await begin.wait()
        yield RECEIVE[100:].encode()

    async def join(name: str) -> int:
        headers = {**SDP, **bearer(node.signer.token(name))}
        async with http.post(f"/whep/r/{name}", data=slowly(), headers=headers) as answer:
            return answer.status

    async with asyncio.TaskGroup() as group:
        joins = [group.create_task(join(f"p{number}")) for number in range(6)]
        await asyncio.sleep(0.2)
        assert_nothing_here(node)
        begin.set()
    assert sorted(one.result() for one in joins) == [201, 201, 503, 503, 503, 503]
    assert len(node.engine.participants()) == 2


async def test_a_newer_epoch_replaces_and_an_older_one_is_stale(
    node: RunningNode, http: aiohttp.ClientSession
) -> None:
    async def knock(door: str, epoch: int) -> aiohttp.ClientResponse:
        headers = {**SDP, **bearer(node.signer.token("ana", epoch=epoch))}
        return await http.post(f"/{door}/r/ana", data=OFFERS[door], headers=headers)

    first = (await knock("whip", 3)).headers["Location"].rpartition("/")[2]
    assert (await knock("whep", 4)).status == 201
    assert node.engine.owner(first) is None
    assert [(one.epoch, one.slots) for one in node.engine.participants()] == [(4, 3)]
    await assert_problem(await knock("whip", 3), 409, "stale_epoch")
    assert [(one.epoch, len(one.tracks)) for one in node.engine.participants()] == [(4, 0)]
    assert (await knock("whip", 4)).status == 201


@pytest.mark.parametrize("door", OFFERS)
async def test_what_a_session_that_began_says(
    node: RunningNode, http: aiohttp.ClientSession, door: str
) -> None:
    headers = {**SDP, **bearer(node.signer.token("ana")), "Origin": "https://app.example"}
    async with http.post(f"/{door}/r/ana", data=OFFERS[door], headers=headers) as answer:
        body = await answer.text()
        assert (answer.status, answer.content_type) == (201, "application/sdp")
        location = answer.headers["Location"]
        assert location.startswith("/sessions/")
        session = location.removeprefix("/sessions/")
        assert len(session) >= 32
        assert node.engine.owner(session) == Identity("r", "ana", 1, True)
        etag = answer.headers["ETag"]
        assert etag[0] == etag[-1] == '"'
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "ETag", "Link"} <= set(exposed)
        assert answer.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
        link = answer.links.get("urn:thalweg:params:slots")
        if door == "whip":
            assert link is None
        else:
            assert link is not None
            assert str(link["url"]) == f"{node.url}{location}/slots"
    assert "a=ice-lite\r\n" in body
    assert body.count("a=candidate:") == len(OFFERS[door].split("\r\nm=")) - 1


async def test_ids_in_urls_are_decoded(node: RunningNode, http: aiohttp.ClientSession) -> None:
    headers = {**SDP, **bearer(node.signer.token("a~na", room="r.1"))}
    async with http.post("/whep/r%2E1/a%7Ena", data=RECEIVE, headers=headers) as answer:
        assert answer.status == 201
    assert [(one.room, one.participant) for one in node.engine.participants()] == [("r.1", "a~na")]
