"""Who may open a trunk, and who may not: real gRPC with real certificates."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from thalweg.v1 import common_pb2, trunk_pb2, trunk_pb2_grpc

from relay.transport.tls import TlsFiles, node_identity
from relay.trunk import service
from relay.trunk.model import Link, Peer
from relay.trunk.udp import KEY_BYTES
from tests.fakes.trunk_node import HOST, REGION, TrunkNode, node_tls, tls_files
from tests.fakes.waiting import eventually


@pytest.fixture
async def callee() -> AsyncIterator[TrunkNode]:
    async with TrunkNode("m").running() as node:
        node.manager.desired([], [Peer(name, REGION, "x:1", None) for name in ("a", "b", "z")])
        yield node


def request(
    node: str = "a", to_node: str = "m", generation: int = 1, port: int = 9, key: int = KEY_BYTES
) -> trunk_pb2.OpenRequest:
    return trunk_pb2.OpenRequest(
        node=node,
        to_node=to_node,
        generation=generation,
        endpoint=common_pb2.UdpEndpoint(host=HOST, port=port),
        send_key=trunk_pb2.SrtpKey(key_and_salt=bytes(key)),
    )


async def refusal(callee: TrunkNode, tls: TlsFiles, message: trunk_pb2.OpenRequest) -> str:
    """Call Open and return why it was refused, or "" if it was not."""
    async with grpc.aio.secure_channel(callee.target, tls.channel_credentials()) as channel:
        try:
            await trunk_pb2_grpc.TrunkServiceStub(channel).Open(message, timeout=5)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
    return ""


async def test_a_node_opens_a_trunk_in_its_own_name_only(callee: TrunkNode) -> None:
    assert await refusal(callee, node_tls("b"), request(node="a")) == (
        "PERMISSION_DENIED: the certificate is of node b and not of 'a'"
    )
    assert callee.manager.trunks == {}
    assert await refusal(callee, node_tls("a"), request(node="a")) == ""
    assert callee.manager.trunks.keys() == {"a"}


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (request(to_node="x"), "FAILED_PRECONDITION: this is m and not 'x'"),
        (request(node="z"), "FAILED_PRECONDITION: of m and z, m calls"),
        (request(node="m"), "FAILED_PRECONDITION: of m and m, m calls"),
        (request(port=0), "INVALID_ARGUMENT: 0 is not a port"),
        (request(key=10), "INVALID_ARGUMENT: the key has 10 bytes and not 44"),
    ],
)
async def test_an_open_that_is_refused(
    callee: TrunkNode, message: trunk_pb2.OpenRequest, why: str
) -> None:
    assert (await refusal(callee, node_tls(message.node), message)).startswith(why)
    assert callee.manager.socket.counters.received == 0


@pytest.mark.parametrize("peers", [[], [Peer("a", "us-virginia", "x:1", None)]])
async def test_only_a_node_that_the_snapshot_names_opens_a_trunk(
    callee: TrunkNode, monkeypatch: pytest.MonkeyPatch, peers: list[Peer]
) -> None:
    monkeypatch.setattr(service, "PEER_WAIT_S", 0.1)
    callee.manager.desired([], peers)
    assert await refusal(callee, node_tls("a"), request()) == (
        "PERMISSION_DENIED: the control plane has not told m of node a in eu-frankfurt"
    )
    assert callee.manager.trunks == {}


async def test_a_caller_whose_snapshot_came_first_is_let_wait(callee: TrunkNode) -> None:
    callee.manager.desired([], [])

    async def told() -> None:
        await asyncio.sleep(0.2)
        callee.manager.desired([], [Peer("a", REGION, "x:1", None)])

    async with asyncio.TaskGroup() as group:
        group.create_task(told())
        opened = group.create_task(refusal(callee, node_tls("a"), request()))
    assert opened.result() == ""


async def test_an_older_generation_is_refused(callee: TrunkNode) -> None:
    assert await refusal(callee, node_tls("a"), request(generation=5)) == ""
    assert await refusal(callee, node_tls("a"), request(generation=4)) == (
        "FAILED_PRECONDITION: generation 4 is older than 5, which is in place"
    )
    assert await refusal(callee, node_tls("a"), request(generation=6)) == ""


async def test_only_nodes_of_the_same_authority_open_trunks(callee: TrunkNode) -> None:
    client = tls_files("client/app")
    assert (await refusal(callee, client, request())).startswith("UNAUTHENTICATED")
    stranger = node_tls("a", ca="another")
    trusting = TlsFiles(node_tls("a").ca, stranger.cert, stranger.key)
    assert (await refusal(callee, trusting, request())).startswith("UNAVAILABLE")


async def test_a_trunk_that_is_not_the_callers_cannot_be_used(callee: TrunkNode) -> None:
    theirs = node_tls("a").channel_credentials()
    async with grpc.aio.secure_channel(callee.target, theirs) as channel:
        opened = await trunk_pb2_grpc.TrunkServiceStub(channel).Open(request())
    mine = node_tls("b").channel_credentials()
    async with grpc.aio.secure_channel(callee.target, mine) as channel:
        call = trunk_pb2_grpc.TrunkServiceStub(channel).Signal()
        await call.write(trunk_pb2.SignalRequest(trunk=opened.trunk))
        assert await call.code() is grpc.StatusCode.NOT_FOUND


async def test_what_a_node_may_not_say_is_passed_over(callee: TrunkNode) -> None:
    callee.manager.desired([Link("r", "a", "m")], [Peer("a", "eu-frankfurt", "x:1", None)])

    def offer(origin: str, hops: int = 1, kind: int = 1) -> trunk_pb2.SignalRequest:
        track = trunk_pb2.OfferedTrack(
            id=f"t-{origin}-{hops}-{kind}",
            participant="ana",
            kind=kind,  # type: ignore[arg-type]
            codec=common_pb2.Codec(name="opus", clock_rate=48_000, channels=2),
            ssrc=5,
            hops=hops,
            origin_node=origin,
        )
        tracks = trunk_pb2.RoomTracks(room="r", tracks=[track])
        return trunk_pb2.SignalRequest(message=trunk_pb2.TrunkMessage(tracks=tracks))

    credentials = node_tls("a").channel_credentials()
    async with grpc.aio.secure_channel(callee.target, credentials) as channel:
        stub = trunk_pb2_grpc.TrunkServiceStub(channel)
        opened = await stub.Open(request())
        call = stub.Signal()
        ping = trunk_pb2.TrunkMessage(ping=trunk_pb2.Ping(nonce=77))
        await call.write(trunk_pb2.SignalRequest(trunk=opened.trunk, message=ping))
        for bad in (offer("b"), offer("a", hops=2), offer("a", kind=0), offer("a", kind=99)):
            await call.write(bad)
        await call.write(trunk_pb2.SignalRequest())  # a kind of message from the future
        await call.write(offer("a"))
        ping = trunk_pb2.TrunkMessage(ping=trunk_pb2.Ping(nonce=78))
        await call.write(trunk_pb2.SignalRequest(message=ping))
        async for response in call:
            if response.message.pong.nonce == 78:
                break
        await eventually(lambda: None if callee.rooms.tracks("r") else "nothing offered")
        assert [track.info.id for track in callee.rooms.tracks("r")] == ["t-a-1-1"]
        call.cancel()


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["spiffe://thalweg/region/eu/node/a", "spiffe://thalweg/region/eu/node/b"],
        ["spiffe://other/region/eu/node/a"],
        ["spiffe://thalweg/region/eu/node/a/more"],
        ["spiffe://thalweg/region/eu/node/"],
        ["spiffe://thalweg/controlplane/one"],
    ],
)
def test_certificates_that_name_no_node(uris: list[str]) -> None:
    assert node_identity(uris) is None
