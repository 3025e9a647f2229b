"""Every door of a node by every bad token: refused with the documented status and code.

Doors and faults are data. A path that is in no table fails a test. The control plane's doors are in test_doors.py.
"""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import jwt
import pytest

from relay.api.http import make_app
from tests.api.who import encoded, hs256, token
from tests.relay.api.asking import SDP
from tests.relay.api.offers import PUBLISH, RECEIVE
from tests.relay.rtc import RunningNode, Signer, running_node

RELAY_DOORS: dict[str, tuple[str, str, str]] = {
    "whip": ("POST", "/whip/{room}/{participant}", PUBLISH),
    "whep": ("POST", "/whep/{room}/{participant}", RECEIVE),
    "trickle": ("PATCH", "/sessions/{session}", ""),
    "delete": ("DELETE", "/sessions/{session}", ""),
    "slots": ("GET", "/sessions/{session}/slots", ""),
}
RELAY_OPEN = {("GET", "/probe"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}
"""Need no token: nothing of a participant's is there."""

BEGINS = ("whip", "whep")


def unsigned_claims(signer: Signer) -> dict[str, Any]:
    said: dict[str, Any] = jwt.decode(signer.token("ana"), options={"verify_signature": False})
    return said


def with_another_kid(signer: Signer) -> str:
    return jwt.encode(unsigned_claims(signer), signer._key, "EdDSA", headers={"kid": "k2"})


TokenOf = Callable[[Signer], str | None]
PARTICIPANT_FAULTS: dict[str, tuple[TokenOf, dict[str, tuple[int, str]]]] = {
    "missing": (lambda _: None, {"": (401, "token_missing")}),
    "empty": (lambda _: "", {"": (401, "token_missing")}),
    "garbage": (lambda _: "garbage", {"": (401, "token_malformed")}),
    "oversized": (lambda _: "x" * 5000, {"": (401, "token_malformed")}),
    "alg none": (
        lambda s: encoded({"alg": "none", "kid": "k1"}, unsigned_claims(s)) + ".",
        {"": (401, "token_malformed")},
    ),
    "HS256 with the public key": (
        lambda s: hs256(s.public, {"kid": "k1"}, unsigned_claims(s)),
        {"": (401, "token_malformed")},
    ),
    "unknown kid": (with_another_kid, {"": (401, "token_unknown_key")}),
    "forged": (lambda _: Signer().token("ana"), {"": (401, "token_forged")}),
    "not yet valid": (
        lambda s: s.token("ana", nbf=time.time() + 60),  # noqa: TID251
        {"": (401, "token_malformed")},
    ),
    "another issuer": (lambda s: s.token("ana", iss="x"), {"": (401, "token_malformed")}),
    "a caller's JWT": (lambda _: token("jwt-root"), {"": (401, "token_unknown_key")}),
    "another node": (lambda s: s.token("ana", node="n2"), {"": (403, "token_for_other_node")}),
    "another tenant": (
        lambda s: s.token("ana", room="acme:r"),
        {"begins": (403, "token_for_other_participant"), "": (404, "no_such_session")},
    ),
    "another participant": (
        lambda s: s.token("bob"),
        {"begins": (403, "token_for_other_participant"), "": (404, "no_such_session")},
    ),
    "another epoch": (
        lambda s: s.token("ana", epoch=1),
        {"begins": (409, "stale_epoch"), "": (404, "no_such_session")},
    ),
    "expired": (
        lambda s: s.token("ana", epoch=2, exp=time.time() - 10),  # noqa: TID251
        # A session that began in time goes on, and is ended by the token that it began with (RFC 9725, section 4.2).
        {"begins": (401, "token_expired"), "": (0, "")},
    ),
}
"""Fault → the token, and status and code at the doors where sessions begin and at the others."""


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node() as running_one:
        yield running_one


async def ask(
    http: aiohttp.ClientSession, door: str, session: str, sent: str | None
) -> tuple[int, str]:
    """Return status and code of a request that is good but for its token."""
    method, path, body = RELAY_DOORS[door]
    headers = dict(SDP)
    if door == "trickle":
        headers["Content-Type"] = "application/trickle-ice-sdpfrag"
    if sent is not None:
        headers["Authorization"] = f"Bearer {sent}"
    url = path.format(room="r", participant="ana", session=session)
    async with http.request(method, url, data=body, headers=headers) as answer:
        if answer.status < 400:
            return answer.status, ""
        problem = await answer.json(content_type=None)
        return answer.status, problem["code"]


@pytest.mark.parametrize("door", RELAY_DOORS)
async def test_no_door_of_a_node_takes_a_bad_token(node: RunningNode, door: str) -> None:
    async with aiohttp.ClientSession(node.url) as http:
        headers = {**SDP, "Authorization": f"Bearer {node.signer.token('ana', epoch=2)}"}
        async with http.post("/whep/r/ana", data=RECEIVE, headers=headers) as begun:
            assert begun.status == 201
            session = begun.headers["Location"].rpartition("/")[2]
        for name, (make, expected) in PARTICIPANT_FAULTS.items():
            wanted = expected.get("begins" if door in BEGINS else "", expected[""])
            if wanted[0]:
                said = await ask(http, door, session, make(node.signer))
                assert said == wanted, name
                assert node.engine.owner(session) is not None, name


@pytest.mark.parametrize("door", BEGINS)
async def test_a_token_begins_one_session(node: RunningNode, door: str) -> None:
    async with aiohttp.ClientSession(node.url) as http:
        once = node.signer.token("ana")
        assert (await ask(http, door, "", once))[0] == 201
        assert await ask(http, door, "", once) == (401, "token_replayed")


async def test_a_session_ends_by_url_and_token_together(node: RunningNode) -> None:
    async with aiohttp.ClientSession(node.url) as http:
        first = node.signer.token("ana")
        headers = {**SDP, "Authorization": f"Bearer {first}"}
        async with http.post("/whep/r/ana", data=RECEIVE, headers=headers) as begun:
            session = begun.headers["Location"].rpartition("/")[2]
        assert await ask(http, "delete", "x" * len(session), first) == (404, "no_such_session")
        stale = node.signer.token("ana", exp=time.time() - 10)  # noqa: TID251
        assert await ask(http, "trickle", session, stale) == (204, "")
        assert await ask(http, "delete", session, stale) == (200, "")
        assert await ask(http, "delete", session, first) == (404, "no_such_session")


async def test_every_path_of_a_node_is_in_a_table(node: RunningNode) -> None:
    app = make_app(node.engine, node.state, node.probes, lambda: b"")
    listed = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert listed == {(method, path) for method, path, _ in RELAY_DOORS.values()} | RELAY_OPEN
