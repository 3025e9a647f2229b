"""NodeService.Session over real mTLS: who may speak, what is sent, how it ends."""

import asyncio
from typing import Any

import grpc
import pytest
from thalweg.v1 import common_pb2, node_pb2, node_pb2_grpc

from controlplane.adapters import wire
from controlplane.adapters.ca import Bundle
from controlplane.adapters.wire import report_from_wire
from controlplane.api import nodes_grpc
from controlplane.core.session import NodeReport
from tests.api.fake_relay import FakeRelay, certificate, relays
from tests.api.harness import CLIENT, STRANGER, Api, issue
from tests.fakes.waiting import eventually

NODE, REGION = "eu-frankfurt-1", "eu-frankfurt"
OWN = certificate(NODE, REGION)


async def refusal(
    api: Api, bundle: Bundle, *messages: node_pb2.SessionRequest
) -> grpc.aio.AioRpcError:
    """Return how a session ends that says these things."""
    async with api.channel(bundle) as channel:
        call = node_pb2_grpc.NodeServiceStub(channel).Session(iter_of(messages), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        return caught.value


async def iter_of(messages: tuple[node_pb2.SessionRequest, ...]) -> Any:
    for message in messages:
        yield message
    await asyncio.sleep(10)


@pytest.mark.parametrize(
    "spiffe_id",
    [
        "spiffe://thalweg/region/eu-frankfurt/node/another",
        "spiffe://thalweg/region/us-virginia/node/eu-frankfurt-1",
        "spiffe://thalweg/region/eu-frankfurt/node/eu-frankfurt-1/more",
        "spiffe://elsewhere/region/eu-frankfurt/node/eu-frankfurt-1",
        "spiffe://thalweg/controlplane/tests",
        "spiffe://thalweg/client/tests",
    ],
)
async def test_only_the_certificate_says_who_a_node_is(api: Api, spiffe_id: str) -> None:
    ended = await refusal(api, issue(spiffe_id), FakeRelay(NODE, REGION).hello())
    assert ended.code() == grpc.StatusCode.PERMISSION_DENIED
    assert (ended.details() or "").startswith("node-identity: ")
    assert (await api.call("GET", "/v1/nodes")).json == {"nodes": []}


async def test_without_a_certificate_of_our_authority_nobody_gets_in(api: Api) -> None:
    stranger = issue(f"spiffe://thalweg/region/{REGION}/node/{NODE}", STRANGER)
    forged = Bundle(ca=CLIENT.ca, cert=stranger.cert, key=stranger.key)
    ended = await refusal(api, forged, FakeRelay(NODE, REGION).hello())
    assert ended.code() == grpc.StatusCode.UNAVAILABLE
    anonymous = grpc.ssl_channel_credentials(CLIENT.ca)
    async with grpc.aio.secure_channel(f"127.0.0.1:{api.ports.grpc}", anonymous) as channel:
        call = node_pb2_grpc.NodeServiceStub(channel).Session(iter_of(()), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


HELLO = FakeRelay(NODE, REGION).hello()


def hello(**changes: Any) -> node_pb2.SessionRequest:
    return FakeRelay(NODE, REGION).hello(**changes)


def report(**members: Any) -> node_pb2.SessionRequest:
    return node_pb2.SessionRequest(report=node_pb2.Report(sequence=1, **members))


def report_of(**members: Any) -> node_pb2.SessionRequest:
    ana: dict[str, Any] = {"room": "r", "participant": "ana", "epoch": 1} | members
    return report(participants=[node_pb2.ParticipantReport(**ana)])


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ((report(),), "hello-missing"),
        ((node_pb2.SessionRequest(),), "hello-missing"),
        ((hello(http_url="ftp://x"),), "bad-hello"),
        ((hello(http_url=""),), "bad-hello"),
        ((hello(http_url="http://[x"),), "bad-hello"),
        ((hello(http_url="http://x:port"),), "bad-hello"),
        ((hello(http_url="http://x/?y=z"),), "bad-hello"),
        ((hello(http_url="http://x/a b"),), "bad-hello"),
        ((hello(http_url="http://x/" + "y" * 3000),), "bad-hello"),
        ((hello(node="Frankfurt"),), "bad-hello"),
        ((hello(trunk_target="x:"),), "bad-hello"),
        ((hello(kept_snapshot=2**64 - 1),), "bad-hello"),
        ((hello(trunk_target="x"),), "bad-hello"),
        ((hello(capacity=0),), "bad-hello"),
        ((hello(media=common_pb2.UdpEndpoint(host="x", port=70_000)),), "bad-hello"),
        ((HELLO, HELLO), "unexpected-message"),
        ((HELLO, node_pb2.SessionRequest()), "unexpected-message"),
        ((HELLO, report(load=float("nan"))), "bad-report"),
        ((HELLO, report(load=-1.0)), "bad-report"),
        ((HELLO, report(rtts=[node_pb2.PeerRtt(node="n", rtt_ms=float("inf"))])), "bad-report"),
        ((HELLO, report(links=[node_pb2.LinkReport(to_node="n")])), "bad-report"),
        ((HELLO, report_of(tracks=[node_pb2.TrackReport()])), "bad-report"),
        ((HELLO, report_of(room="../../x")), "bad-report"),
        ((HELLO, report_of(participant="x" * 129)), "bad-report"),
        ((HELLO, report_of(epoch=2**53)), "bad-report"),
    ],
)
async def test_a_node_that_breaks_the_protocol_is_told_how(
    api: Api, messages: tuple[node_pb2.SessionRequest, ...], code: str
) -> None:
    ended = await refusal(api, OWN, *messages)
    assert ended.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (ended.details() or "").startswith(f"{code}: ")


async def test_a_region_that_the_topology_lacks(api: Api) -> None:
    bundle = certificate("mars-1", "mars")
    ended = await refusal(api, bundle, FakeRelay("mars-1", "mars").hello())
    assert (ended.details() or "").startswith("unknown-region: ")


async def test_who_says_nothing_does_not_stay(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes_grpc, "HELLO_TIMEOUT_S", 0.1)
    assert ((await refusal(api, OWN)).details() or "").startswith("hello-missing: ")
    monkeypatch.setattr(nodes_grpc, "SILENCE_S", 0.1)
    assert ((await refusal(api, OWN, HELLO)).details() or "").startswith("node-silent: ")


async def test_a_snapshot_comes_on_connecting_and_on_change(api: Api) -> None:
    async with relays(api, "eu-frankfurt", "us-virginia") as (frankfurt, virginia):
        first = frankfurt.snapshots[0]
        assert first.token_keys
        assert first.report_interval_ms > 0
        for name, place in (("ana", "eu-frankfurt"), ("bo", "us-virginia")):
            probes = [
                {"region": region, "rtt_ms": [5.0 if region == place else 300.0]}
                for region in ("eu-frankfurt", "us-virginia")
            ]
            await api.join("r", name, probes=probes)

        def linked() -> str | None:
            ends = {(link.from_node, link.to_node) for link in frankfurt.snapshots[-1].links}
            both = {(frankfurt.node, virginia.node), (virginia.node, frankfurt.node)}
            return None if ends == both else f"links are {ends}"

        await eventually(linked, timeout=2)
        last = frankfurt.snapshots[-1]
        assert last.version > first.version
        assert {peer.node for peer in last.peers} >= {virginia.node}
        assert len({snapshot.nonce for snapshot in frankfurt.snapshots}) == len(frankfurt.snapshots)


async def test_a_snapshot_comes_though_nothing_changed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_grpc, "SNAPSHOT_INTERVAL_S", 0.05)
    async with relays(api, "eu-frankfurt") as (node,):
        await eventually(
            lambda: None if len(node.snapshots) >= 5 else f"{len(node.snapshots)} came"
        )
        assert len({snapshot.version for snapshot in node.snapshots[-3:]}) == 1


async def test_what_a_node_reports_is_seen(api: Api) -> None:
    async with relays(api, "eu-frankfurt") as (node,):
        epoch = (await api.join("r", "ana")).json["epoch"]
        node.participants = [
            node_pb2.ParticipantReport(
                room="r",
                participant="ana",
                epoch=epoch,
                tracks=[
                    node_pb2.TrackReport(
                        id="t1",
                        kind=common_pb2.MEDIA_KIND_VIDEO,
                        codec=common_pb2.Codec(name="vp8"),
                        packets=7,
                    )
                ],
            )
        ]

        async def live() -> str | None:
            seat = (await api.call("GET", "/v1/rooms/r/participants/ana")).json
            return None if seat["live"] else f"{seat}"

        await eventually(live)
        seat = (await api.call("GET", "/v1/rooms/r/participants/ana")).json
        assert seat["tracks"] == [{"id": "t1", "kind": "video", "codec": "vp8", "packets": 7}]


async def test_the_newest_session_of_a_node_wins(api: Api) -> None:
    async with relays(api, "eu-frankfurt") as (before,):
        after = FakeRelay(NODE, REGION)
        async with api.channel(OWN) as channel, asyncio.TaskGroup() as group:
            task = group.create_task(after.live(channel))
            await eventually(lambda: None if before.ended else "the first session goes on")
            assert before.ended is not None
            assert before.ended[0] == grpc.StatusCode.ABORTED
            assert before.ended[1].startswith("session-replaced: ")
            await eventually(lambda: None if after.snapshots else "no snapshot for the second")

            async def serving() -> str | None:
                state: str = (await api.call("GET", f"/v1/nodes/{NODE}")).json["state"]
                return None if state == "serving" else state

            await eventually(serving)
            task.cancel()


async def test_a_node_that_goes_is_suspect_at_once(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        pass

    async def suspect() -> str | None:
        state: str = (await api.call("GET", f"/v1/nodes/{NODE}")).json["state"]
        return None if state == "suspect" else state

    await eventually(suspect, timeout=1)


async def test_a_node_that_floods_is_held_back(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nodes_grpc, "REPORT_GAP_S", 0.2)
    taken: list[int] = []

    def counted(message: node_pb2.Report) -> NodeReport:
        taken.append(message.sequence)
        return report_from_wire(message)

    monkeypatch.setattr(wire, "report_from_wire", counted)
    answer = node_pb2.SnapshotResult(nonce="never sent", version=1, error="x")
    async with api.channel(OWN) as channel:
        call = node_pb2_grpc.NodeServiceStub(channel).Session()
        await call.write(HELLO)
        for _ in range(100):
            await call.write(node_pb2.SessionRequest(result=answer))
        for _ in range(100):
            await call.write(report(load=0.1))
        await asyncio.sleep(0.5)
        call.cancel()
    assert 1 <= len(taken) <= 4
    assert "snapshot" not in capsys.readouterr().out
    metrics = (await api.call("GET", "/metrics")).text
    assert 'thalweg_snapshots_total{result="unknown"} 100.0' in metrics
