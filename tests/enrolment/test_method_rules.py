"""Which certificate may call which method: one table, and every method of the servers is in it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from controlplane.adapters.ca import Bundle
from controlplane.api.identity import RULES, Role, certificate_of, peer_of, require_method
from controlplane.errors import ForbiddenError, UnauthenticatedError
from tests.api.harness import Api, issue

HOLDERS = {
    Role.NODE: "region/eu-frankfurt/node/fra1",
    Role.CONTROL_PLANE: "controlplane/one",
    Role.SIGNALLING: "signalling/app",
    Role.CLIENT: "client/app",
    Role.OTHER: "somebody/else",
}

ALLOWED = {
    "/thalweg.v1.NodeService/Session": {Role.NODE},
    "/thalweg.v1.CertificateService/Renew": {Role.NODE},
    "/thalweg.v1.AllocatorService/Join": {Role.SIGNALLING, Role.CLIENT},
    "/grpc.health.v1.Health/Check": set(Role),
    "/grpc.health.v1.Health/List": set(Role),
    "/grpc.health.v1.Health/Watch": set(Role),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": set(Role),
}


def auth(*uris: str) -> dict[str, list[bytes]]:
    names = ["localhost", *uris, "127.0.0.1"]
    return {"x509_subject_alternative_name": [name.encode() for name in names]}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("method", ALLOWED)
def test_who_may_call_what(role: Role, method: str) -> None:
    caller = auth(f"spiffe://thalweg/{HOLDERS[role]}")
    if role in ALLOWED[method]:
        require_method(caller, method)
    else:
        with pytest.raises(ForbiddenError) as caught:
            require_method(caller, method)
        assert caught.value.code == "method-identity"


def test_the_table_is_the_whole_table() -> None:
    assert dict(RULES) == ALLOWED


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("spiffe://thalweg/region/r/node/n", "spiffe://thalweg/client/x"),
        ("spiffe://thalweg/region/r/node/n", "https://x.test"),
        ("spiffe://elsewhere/region/r/node/n",),
        ("spiffe://thalweg/region/r/node/n/more",),
        ("spiffe://thalweg/region/r/node/",),
        ("spiffe://thalweg/signalling/a/b",),
    ],
)
def test_a_certificate_that_names_nobody_may_look_at_health_only(uris: tuple[str, ...]) -> None:
    assert peer_of(auth(*uris)).role is Role.OTHER


def test_without_a_certificate_there_is_nothing_to_read() -> None:
    with pytest.raises(UnauthenticatedError):
        certificate_of({})


def test_a_method_that_nobody_listed_is_nobodys() -> None:
    with pytest.raises(ForbiddenError, match="may not call"):
        require_method(auth("spiffe://thalweg/client/x"), "/thalweg.v1.New/Method")


async def outcome(api: Api, bundle: Bundle, method: str) -> str:
    """Call a method with an empty message and return the status and the code of the answer."""
    async with api.channel(bundle) as channel:
        # Not as a stream: one that is refused before its message has left fails with an error of the client's own.
        stub: Any = channel.unary_stream(method)
        call = stub(b"", timeout=5)
        with suppress(grpc.aio.AioRpcError):
            if await call.read() is not grpc.aio.EOF:
                call.cancel()
                return "answered"
        return f"{(await call.code()).name} {(await call.details()).partition(':')[0]}"


@pytest.mark.parametrize("role", Role)
async def test_the_server_keeps_to_the_table(api: Api, role: Role) -> None:
    bundle = await asyncio.to_thread(issue, f"spiffe://thalweg/{HOLDERS[role]}")
    for method, allowed in ALLOWED.items():
        refused = await outcome(api, bundle, method) == "PERMISSION_DENIED method-identity"
        assert refused == (role not in allowed), method


async def test_every_method_of_the_server_is_listed(api: Api) -> None:
    async def ask(**question: str) -> reflection_pb2.ServerReflectionResponse:
        async def one() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(**question)

        async with api.channel() as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            async for response in stub.ServerReflectionInfo(one()):
                return response
        raise AssertionError("no answer")

    listed = (await ask(list_services="")).list_services_response.service
    names = {service.name for service in listed}
    assert names == {method.split("/")[1] for method in RULES}
