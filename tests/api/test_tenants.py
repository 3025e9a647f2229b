"""Tenants see their own rooms under their own names, and nothing else; scopes are what they say."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from thalweg.v1 import allocator_pb2, allocator_pb2_grpc

from controlplane.api.http.server import all_routes
from controlplane.core.identity import Caller, Scope, parse_grant
from tests.api.fake_relay import relays
from tests.api.harness import Api, running, settings
from tests.api.test_events_http import Reader, stream
from tests.api.who import SCOPES, callers, token

ANA = "participants/ana"


@pytest.fixture
async def api(tls_dir: Path) -> AsyncIterator[Api]:
    async with (
        running(settings(tls_dir, callers=callers())) as found,
        relays(found, "eu-frankfurt", key="root"),
    ):
        yield found


async def join(api: Api, key: str, room: str = "r", who: str = "ana") -> dict[str, Any]:
    path = f"/v1/rooms/{room}/participants/{who}"
    answer = await api.call("PUT", path, {"session": f"{key[:20]}-{who}"}, key=key)
    assert answer.status == 201, answer.text
    found: dict[str, Any] = answer.json
    return found


async def seen(reader: Reader, count: int) -> list[tuple[str, str | None, str | None]]:
    """Return type, room and participant of the next events."""
    events = [await reader.event() for _ in range(count)]
    return [(kind, data.get("room"), data.get("participant")) for _, kind, data in events]


async def test_the_same_name_is_another_room_for_each_tenant(api: Api) -> None:
    acme, beta, plain = [await join(api, key) for key in ("acme", "beta", "plain")]
    assert {one["room"] for one in (acme, beta, plain)} == {"r"}
    urls = [one["node"]["whip_url"].partition("/whip/")[2] for one in (acme, beta, plain)]
    assert urls == ["acme:r/ana", "beta:r/ana", "r/ana"]
    claims = jwt.decode(acme["token"], options={"verify_signature": False})
    assert (claims["room"], claims["sub"]) == ("acme:r", "ana")
    for key, session in (("acme", "acme-ana"), ("beta", "beta-ana"), ("plain", "plain-ana")):
        seat = (await api.call("GET", f"/v1/rooms/r/{ANA}", key=key)).json
        assert (seat["room"], seat["session"]) == ("r", session)
        why = (await api.call("GET", f"/v1/rooms/r/{ANA}/decision", key=key)).json
        assert (why["room"], why["others"]) == ("r", 0)
        shown = (await api.call("GET", "/v1/rooms/r", key=key)).json
        assert (shown["id"], len(shown["participants"])) == ("r", 1)
        listed = (await api.call("GET", "/v1/rooms", key=key)).json
        assert [room["id"] for room in listed["rooms"]] == ["r"]
    everything = (await api.call("GET", "/v1/rooms", key="ops")).json
    assert [room["id"] for room in everything["rooms"]] == ["acme:r", "beta:r", "r"]
    assert (await api.call("DELETE", f"/v1/rooms/r/{ANA}", key="beta")).status == 204
    assert (await api.call("GET", f"/v1/rooms/r/{ANA}", key="acme")).status == 200


async def test_a_foreign_room_is_no_room(api: Api) -> None:
    await join(api, "acme")
    await join(api, "plain", "own")
    for key in ("beta", "plain", "acme"):
        for method, path, body in (
            ("PUT", f"acme:r/{ANA}", {"session": "s"}),
            ("GET", f"acme:r/{ANA}", None),
            ("GET", f"acme:r/{ANA}/decision", None),
            ("DELETE", f"acme:r/{ANA}", None),
            ("GET", "acme:r", None),
        ):
            answer = await api.call(method, f"/v1/rooms/{path}", body, key=key)
            answer.problem(404, "room-not-found")
        for method, path, body in (
            ("POST", "/v1/decisions", {"room": "acme:r"}),
            ("GET", "/v1/rooms?after=acme:r", None),
            ("GET", "/v1/events?room=acme:r", None),
        ):
            (await api.call(method, path, body, key=key)).problem(404, "room-not-found")
    (await api.call("POST", "/v1/probe-plans", {"room": "acme:r"}, key="beta")).problem(
        404, "room-not-found"
    )
    (await api.call("GET", f"/v1/rooms/r/{ANA}", key="beta")).problem(404, "participant-not-found")
    assert (await api.call("GET", "/v1/rooms/acme:r", key="ops")).json["id"] == "acme:r"
    seat = (await api.call("GET", f"/v1/rooms/acme%3Ar/{ANA}", key="ops")).json
    assert (seat["room"], seat["session"]) == ("acme:r", "acme-ana")


async def test_pages_are_of_own_rooms(api: Api) -> None:
    for key in ("acme", "plain", "beta"):
        for room in ("a", "b", "z"):
            await join(api, key, room)
    for key in ("acme", "plain"):
        seen, after = [], ""
        for _ in range(4):
            page = (await api.call("GET", f"/v1/rooms?limit=1{after}", key=key)).json
            seen += [room["id"] for room in page["rooms"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert seen == ["a", "b", "z"]
    page = (await api.call("GET", "/v1/rooms?limit=2&after=acme:b", key="ops")).json
    assert ([room["id"] for room in page["rooms"]], page["next"]) == (["acme:z", "b"], "b")


async def test_events_are_of_own_rooms(api: Api) -> None:
    async with (
        stream(api, key="acme") as acme,
        stream(api, key="plain") as plain,
        stream(api, key="ops") as ops,
    ):
        await join(api, "acme")
        await join(api, "beta")
        await join(api, "plain", "own")
        await join(api, "acme", "r", "bo")
        drain = await api.call("PUT", "/v1/nodes/eu-frankfurt-1/drain", {}, key="root")
        assert drain.status == 200
        await api.call("DELETE", f"/v1/rooms/own/{ANA}", key="plain")
        assert await seen(acme, 2) == [
            ("participant.assigned", "r", "ana"),
            ("participant.assigned", "r", "bo"),
        ]
        assert await seen(plain, 2) == [
            ("participant.assigned", "own", "ana"),
            ("participant.ended", "own", "ana"),
        ]
        everything = await seen(ops, 7)
        assert {room for _, room, _ in everything} == {"acme:r", "beta:r", "own", None}
        assert {kind for kind, room, _ in everything if room is None} == {"node.draining", "audit"}


@pytest.mark.parametrize("name", SCOPES)
async def test_every_route_wants_its_scope(api: Api, name: str) -> None:
    tenant, _, scopes = SCOPES[name].partition(":")
    caller = Caller(name, *parse_grant(tenant, scopes.split(",")))
    for route in all_routes(open_metrics=False):
        if route.path == "/v1/events":
            continue  # never ends; below
        path = route.path.format(room="r", participant="ana", node="n")
        answer = await api.call(route.method, path, {} if route.body else None, key=name)
        may = route.scope is None or route.scope in caller.scopes
        may = may or (route.scope is Scope.READ and caller.is_admin)
        if may:
            assert answer.status not in {401, 403}, (path, answer.text)
        else:
            problem = answer.problem(403, "scope-missing")
            assert problem["scope"] == route.scope
            assert f"scope {route.scope}" in problem["detail"]
    if Scope.READ not in caller.scopes and not caller.is_admin:
        (await api.call("GET", "/v1/events", key=name)).problem(403, "scope-missing")


async def test_a_jwt_does_what_its_key_may(api: Api) -> None:
    acme = await join(api, token("jwt-acme"))
    assert acme["room"] == "r"
    assert "/acme:r/" in acme["node"]["whip_url"]
    reader = token("jwt-reader")
    assert (await api.call("GET", "/v1/rooms", key=reader)).json["rooms"] == []
    refused = await api.call("DELETE", f"/v1/rooms/r/{ANA}", key=reader)
    refused.problem(403, "scope-missing")
    everything = (await api.call("GET", "/v1/rooms", key=token("jwt-root"))).json
    assert [room["id"] for room in everything["rooms"]] == ["acme:r"]


async def test_grpc_has_the_same_callers(api: Api) -> None:
    request = allocator_pb2.JoinRequest(room="r", participant="ana", session="s")
    foreign = allocator_pb2.JoinRequest(room="beta:r", participant="ana", session="s")
    async with api.channel() as channel:
        ask = allocator_pb2_grpc.AllocatorServiceStub(channel).Join
        for key in ("acme", token("jwt-acme")):
            metadata = (("authorization", f"Bearer {key}"),)
            joined = await ask(request, metadata=metadata)
            assert (joined.room, joined.node.whip_url.partition("/whip/")[2]) == (
                "r", "acme:r/ana",
            )  # fmt: skip
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(foreign, metadata=metadata)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(request, metadata=(("authorization", "Bearer reader"),))
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert (caught.value.details() or "").startswith("scope-missing: ")
