"""AllocatorService.Join: the same answers and the same refusals as over HTTP."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from thalweg.v1 import allocator_pb2, allocator_pb2_grpc

from controlplane.api.grpc_status import MAX_DETAILS
from tests.api.fake_relay import relays
from tests.api.harness import KEY, Api, running, settings

METADATA = (("authorization", f"Bearer {KEY}"),)


def request(**changes: Any) -> allocator_pb2.JoinRequest:
    members: dict[str, Any] = {"room": "r", "participant": "ana", "session": "s"}
    return allocator_pb2.JoinRequest(**(members | changes))


async def test_it_answers_as_http_does(api: Api) -> None:
    async with relays(api, "eu-frankfurt", "us-virginia"), api.channel() as channel:
        join = allocator_pb2_grpc.AllocatorServiceStub(channel).Join
        probes = [allocator_pb2.Probe(region="us-virginia", rtt_ms=[9.0])]
        first = await join(request(probes=probes), metadata=METADATA)
        assert (first.created, first.node.id) == (True, "us-virginia-1")
        assert first.node.whip_url == "http://us-virginia-1.example.net/whip/r/ana"
        assert [node.id for node in first.fallbacks] == ["eu-frankfurt-1"]
        assert first.token.count(".") == 2
        assert first.because
        again = await join(request(probes=probes), metadata=METADATA)
        assert (again.created, again.epoch) == (False, first.epoch)
        over_http = (await api.join("r", "ana", session="s")).json
        assert over_http["epoch"] == first.epoch


@pytest.mark.parametrize(
    ("changes", "metadata", "status", "code"),
    [
        ({}, (), grpc.StatusCode.UNAUTHENTICATED, "api-key-missing"),
        ({}, (("authorization", "Bearer x"),), grpc.StatusCode.UNAUTHENTICATED, "api-key-unknown"),
        ({"room": ""}, METADATA, grpc.StatusCode.INVALID_ARGUMENT, "bad-room-id"),
        ({"participant": "a b"}, METADATA, grpc.StatusCode.INVALID_ARGUMENT, "bad-participant-id"),
        ({"session": ""}, METADATA, grpc.StatusCode.INVALID_ARGUMENT, "body-invalid"),
        ({"client_ip": "x"}, METADATA, grpc.StatusCode.INVALID_ARGUMENT, "body-invalid"),
        ({"role": "king"}, METADATA, grpc.StatusCode.INVALID_ARGUMENT, "body-invalid"),
        (
            {"require": allocator_pb2.Requirements(residency=["mars"])},
            METADATA,
            grpc.StatusCode.FAILED_PRECONDITION,
            "residency-unsatisfied",
        ),
        (
            {"exclude_nodes": ["eu-frankfurt-1"]},
            METADATA,
            grpc.StatusCode.UNAVAILABLE,
            "no-capacity",
        ),
    ],
)
async def test_refusals_carry_the_code(
    api: Api, changes: dict[str, Any], metadata: Any, status: grpc.StatusCode, code: str
) -> None:
    async with relays(api, "eu-frankfurt"), api.channel() as channel:
        join = allocator_pb2_grpc.AllocatorServiceStub(channel).Join
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await join(request(**changes), metadata=metadata)
        assert caught.value.code() == status
        assert (caught.value.details() or "").startswith(f"{code}: ")
        assert (await api.call("GET", "/v1/rooms")).json["rooms"] == []


async def test_a_long_hint_leaves_the_code_readable(tls_dir: Path) -> None:
    regions = "".join(
        f"  {'r' * 56}-{index}: {{location: {{lat: 1, lon: 1}}}}\n" for index in range(200)
    )
    topology = f"version: 1\nregions:\n{regions}"
    async with running(settings(tls_dir, topology_text=topology)) as api, api.channel() as channel:
        join = allocator_pb2_grpc.AllocatorServiceStub(channel).Join
        wanted = request(require=allocator_pb2.Requirements(regions=["mars"]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await join(wanted, metadata=METADATA)
        details = caught.value.details() or ""
        assert details.startswith("unknown-region: ")
        assert len(details) == MAX_DETAILS


async def test_health_and_reflection(api: Api) -> None:
    async with api.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "thalweg.v1.NodeService", "thalweg.v1.AllocatorService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {service.name for service in (await call.read()).list_services_response.service}
        assert {"thalweg.v1.NodeService", "thalweg.v1.AllocatorService"} <= listed
        call.cancel()
