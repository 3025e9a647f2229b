"""Every door of the control plane by every bad credential: refused with the documented status and code.

Doors and faults are data. A method that is in no table fails a test, a new route is knocked at like the others. The
doors of a node are in test_node_doors.py.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from thalweg.v1 import (
    allocator_pb2,
    allocator_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    trunk_pb2,
)

from controlplane.api.http.routing import Route
from controlplane.api.http.server import all_routes
from controlplane.core.identity import Scope
from tests.api.fake_relay import FakeRelay, relays
from tests.api.harness import CLIENT, STRANGER, Api, issue, running, settings
from tests.api.who import SIGNER, callers, encoded, hs256, token
from tests.relay.rtc import Signer

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
}
"""HTTP status → the same at the gRPC door."""


# --- callers: HTTP routes and AllocatorService ---------------------------------------------------


def claims() -> dict[str, Any]:
    now = time.time()  # noqa: TID251  the server has the same clock
    return {"aud": "thalweg", "iat": now, "exp": now + 60}


def alg_none() -> str:
    return encoded({"alg": "none", "kid": "jwt-root"}, claims()) + "."


def with_public_key() -> str:
    raw = SIGNER.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hs256(raw, {"kid": "jwt-root"}, claims())


def forged() -> str:
    return token("jwt-root", key=Ed25519PrivateKey.generate())


def participants_token() -> str:
    """Return what a node would take: it is signed by a key that callers have nothing to do with."""
    return Signer().token("ana")


@dataclass(frozen=True)
class Fault:
    """What is wrong with the Authorization of a caller, and what is said of it."""

    credentials: Callable[[], str | None]
    code: str
    status: int = 401

    @property
    def headers(self) -> dict[str, str]:
        sent = self.credentials()
        return {} if sent is None else {"Authorization": sent}


def bearing(make: Callable[[], str]) -> Callable[[], str]:
    return lambda: f"Bearer {make()}"


CALLER_FAULTS = {
    "missing": Fault(lambda: None, "api-key-missing"),
    "empty": Fault(lambda: "Bearer ", "api-key-missing"),
    "another scheme": Fault(lambda: "Basic YTpi", "api-key-missing"),
    "garbage": Fault(lambda: "Bearer garbage", "api-key-unknown"),
    "the hash of a key": Fault(lambda: "Bearer " + "0" * 64, "api-key-unknown"),
    "oversized": Fault(lambda: "Bearer " + "x" * 5000, "credentials-too-long"),
    "half a JWT": Fault(lambda: "Bearer eyJ.eyJ.", "jwt-malformed"),
    "alg none": Fault(bearing(alg_none), "jwt-malformed"),
    "HS256 with the public key": Fault(bearing(with_public_key), "jwt-malformed"),
    "unknown kid": Fault(bearing(lambda: token("jwt-gone")), "jwt-unknown-key"),
    "forged": Fault(bearing(forged), "jwt-forged"),
    "expired": Fault(bearing(lambda: token("jwt-root", iat=-70, exp=-10)), "jwt-expired"),
    "not yet valid": Fault(bearing(lambda: token("jwt-root", nbf=30)), "jwt-not-yet-valid"),
    "lives too long": Fault(bearing(lambda: token("jwt-root", exp=3600)), "jwt-too-long-lived"),
    "for somebody else": Fault(bearing(lambda: token("jwt-root", aud="n1")), "jwt-wrong-audience"),
    "a participant's token": Fault(bearing(participants_token), "jwt-unknown-key"),
    "a node's join token": Fault(lambda: "Bearer twjoin.a.b.c", "api-key-unknown"),
}
"""A good JWT may be used again within its minute, as an API key may: nothing is refused for being replayed here."""

BODIES: dict[str, object] = {"join_room": {"session": "s"}, "create_token": {"region": "r"}}
"""Operation → a good body, where an empty one is not."""


@pytest.fixture
async def api(tls_dir: Path) -> AsyncIterator[Api]:
    async with running(settings(tls_dir, callers=callers())) as found:
        yield found


def closed_routes() -> list[Route]:
    return [route for route in all_routes(open_metrics=False) if route.scope is not None]


async def knock(api: Api, route: Route, headers: dict[str, str], room: str = "r") -> Any:
    path = route.path.format(room=room, participant="ana", node="n")
    body = BODIES.get(getattr(route.handler, "__name__", ""), {}) if route.body else None
    return await api.call(route.method, path, body, headers=headers, key=None)


@pytest.mark.parametrize("fault", CALLER_FAULTS.values(), ids=CALLER_FAULTS)
async def test_no_route_takes_a_bad_caller(api: Api, fault: Fault) -> None:
    for route in closed_routes():
        answer = await knock(api, route, fault.headers)
        answer.problem(fault.status, fault.code)
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="thalweg"')
        assert "eyJ" not in answer.text


@pytest.mark.parametrize("fault", CALLER_FAULTS.values(), ids=CALLER_FAULTS)
async def test_grpc_takes_no_bad_caller(api: Api, fault: Fault) -> None:
    metadata = tuple((name.lower(), value) for name, value in fault.headers.items())
    async with api.channel() as channel:
        join = allocator_pb2_grpc.AllocatorServiceStub(channel).Join
        request = allocator_pb2.JoinRequest(room="r", participant="ana", session="s")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await join(request, metadata=metadata)
    assert caught.value.code() == CODES[fault.status]
    assert (caught.value.details() or "").startswith(f"{fault.code}: ")


async def test_a_header_above_the_servers_limit_is_cut_off(api: Api) -> None:
    for route in closed_routes():
        answer = await knock(api, route, {"Authorization": "Bearer " + "x" * 20_000})
        assert answer.status in {400, 431}


@pytest.mark.parametrize("key", ["beta", "plain"])
async def test_no_route_shows_the_rooms_of_another_tenant(api: Api, key: str) -> None:
    tenant_routes = [route for route in closed_routes() if "{room}" in route.path]
    assert len(tenant_routes) >= 5
    async with relays(api, "eu-frankfurt", key="root"):
        joined = await api.call("PUT", "/v1/rooms/r/participants/ana", {"session": "s"}, key="acme")
        assert joined.status == 201
        for route in tenant_routes:
            answer = await knock(api, route, {"Authorization": f"Bearer {key}"}, "acme:r")
            answer.problem(404, "room-not-found")
        listed = (await api.call("GET", "/v1/rooms", key=key)).text
        assert "acme" not in listed
        assert (await api.call("GET", "/v1/rooms/r/participants/ana", key="acme")).status == 200


async def test_no_admins_route_takes_a_tenant(api: Api) -> None:
    admins = [route for route in closed_routes() if route.scope is Scope.ADMIN]
    assert {"put_topology", "drain_node", "metrics", "create_token"} <= {
        getattr(route.handler, "__name__", "") for route in admins
    }
    for route in admins:
        for sent in ("acme", "plain", token("jwt-acme")):
            answer = await knock(api, route, {"Authorization": f"Bearer {sent}"})
            answer.problem(403, "scope-missing")


def test_what_may_change_something_is_audited() -> None:
    reads_by_post = {"/v1/probe-plans", "/v1/decisions"}
    for route in all_routes(open_metrics=False):
        changes = route.method not in {"GET", "HEAD"} and route.path not in reads_by_post
        assert (route.action is not None) == changes, route.path
        assert route.scope is not None or not changes


# --- certificates: the methods of the control plane's mTLS port ----------------------------------

NODE, REGION = "eu-frankfurt-1", "eu-frankfurt"
GOOD_KEY = (("authorization", "Bearer root"),)

CERTIFICATES = {
    "the node": f"spiffe://thalweg/region/{REGION}/node/{NODE}",
    "another node": f"spiffe://thalweg/region/{REGION}/node/n2",
    "a node of another region": f"spiffe://thalweg/region/us-virginia/node/{NODE}",
    "a signalling server": "spiffe://thalweg/signalling/app",
    "a client": "spiffe://thalweg/client/app",
    "a control plane": "spiffe://thalweg/controlplane/other",
    "another trust domain": f"spiffe://other/region/{REGION}/node/{NODE}",
    "no role": "spiffe://thalweg/region/eu-frankfurt",
}

ALLOWED = {
    "Session": {"the node"},
    "Join": {"a signalling server", "a client"},
    "Renew": {"the node", "another node", "a node of another region"},
}
"""Method → whose certificates it takes. Renew is about the caller's own identity, whosever that is."""

REFUSED = {"Session": ("method-identity", "node-identity")}
"""What a refusal says; method-identity where nothing is listed."""

ELSEWHERE = {
    "thalweg.v1.EnrollmentService.Enroll": "tests/enrolment/test_enrolment.py",
    "thalweg.v1.TrunkService.Open": "tests/relay/trunk/test_service.py",
    "thalweg.v1.TrunkService.Signal": "tests/relay/trunk/test_service.py",
}
"""Methods on other ports → where their refusals are tested."""


async def call_method(channel: grpc.aio.Channel, method: str) -> tuple[grpc.StatusCode, str]:
    """Return how a call ends that is good but for who makes it."""
    try:
        if method == "Join":
            request = allocator_pb2.JoinRequest(room="r", participant="ana", session="s")
            await allocator_pb2_grpc.AllocatorServiceStub(channel).Join(request, metadata=GOOD_KEY)
        elif method == "Renew":
            stub = enrollment_pb2_grpc.CertificateServiceStub(channel)
            await stub.Renew(enrollment_pb2.RenewRequest(), metadata=GOOD_KEY)
        else:
            session = node_pb2_grpc.NodeServiceStub(channel).Session(metadata=GOOD_KEY)
            await session.write(FakeRelay(NODE, REGION).hello())
            await session.read()
            session.cancel()
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize("method", ALLOWED)
@pytest.mark.parametrize("whose", CERTIFICATES)
async def test_methods_by_certificate(api: Api, method: str, whose: str) -> None:
    async with api.channel(issue(CERTIFICATES[whose])) as channel:
        status, details = await call_method(channel, method)
    if whose in ALLOWED[method]:
        assert status not in {
            grpc.StatusCode.PERMISSION_DENIED,
            grpc.StatusCode.UNAUTHENTICATED,
        }, details
    else:
        assert status == grpc.StatusCode.PERMISSION_DENIED
        assert details.startswith(REFUSED.get(method, ("method-identity",))), details


@pytest.mark.parametrize("method", ALLOWED)
async def test_methods_without_a_certificate_of_ours(api: Api, method: str) -> None:
    right = CERTIFICATES["the node" if method != "Join" else "a signalling server"]
    stranger = issue(right, STRANGER)
    target = f"127.0.0.1:{api.ports.grpc}"
    for credentials in (
        grpc.ssl_channel_credentials(CLIENT.ca),
        grpc.ssl_channel_credentials(CLIENT.ca, stranger.key, stranger.cert),
    ):
        async with grpc.aio.secure_channel(target, credentials) as channel:
            status, _ = await call_method(channel, method)
            assert status == grpc.StatusCode.UNAVAILABLE
    async with grpc.aio.insecure_channel(target) as channel:
        assert (await call_method(channel, method))[0] == grpc.StatusCode.UNAVAILABLE


def test_every_method_is_in_a_table() -> None:
    files = (allocator_pb2, enrollment_pb2, node_pb2, trunk_pb2)
    methods = {
        method.full_name
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    here = {name for name in methods if name.rpartition(".")[2] in ALLOWED}
    assert len(here) == len(ALLOWED)
    assert methods == here | ELSEWHERE.keys()
    root = Path(__file__).parents[2]
    assert all((root / path).is_file() for path in ELSEWHERE.values())
