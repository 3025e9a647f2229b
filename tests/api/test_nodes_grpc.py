"""NodeService.Session over real mTLS: who may speak, what is sent, how it ends."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs
from thalweg.v1 import common_pb2, node_pb2, node_pb2_grpc

from controlplane.adapters.ca import Bundle
from controlplane.adapters.wire import ReportReader
from controlplane.api import node_sessions, nodes_grpc
from controlplane.core.session import NodeReport
from tests.api.fake_relay import FakeRelay, certificate, relays
from tests.api.harness import CLIENT, STRANGER, Api, issue, running, settings
from tests.fakes.waiting import eventually

NODE, REGION = "eu-frankfurt-1", "eu-frankfurt"
OWN = certificate(NODE, REGION)


async def refusal(
    api: Api, bundle: Bundle, *messages: node_pb2.SessionRequest
) -> grpc.aio.AioRpcError:
    """Return how a session ends that says these things.

    A client whose message meets a call that has just been refused may be told INTERNAL by its own library instead of
    what the server said, so it asks again, as relays do.
    """
    for attempt in range(5):
        async with api.channel(bundle) as channel:
            call = node_pb2_grpc.NodeServiceStub(channel).Session(iter_of(messages), timeout=10)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in call:
                    pass
        if attempt == 4 or caught.value.code() != grpc.StatusCode.INTERNAL:
            return caught.value
    raise AssertionError("unreachable")


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
    is_node = "/region/" in spiffe_id and "/more" not in spiffe_id and "elsewhere" not in spiffe_id
    code = "node-identity: " if is_node else "method-identity: "
    assert (ended.details() or "").startswith(code)
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


def roster(**members: Any) -> node_pb2.SessionRequest:
    return report(roster=node_pb2.Roster(**members).SerializeToString())


def report_of(**members: Any) -> node_pb2.SessionRequest:
    ana: dict[str, Any] = {"room": "r", "participant": "ana", "epoch": 1} | members
    return roster(participants=[node_pb2.ParticipantReport(**ana)])


def standby(node: str = NODE, region: str = REGION) -> node_pb2.SessionRequest:
    return node_pb2.SessionRequest(standby=node_pb2.Standby(node=node, region=region))


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
        ((HELLO, roster(links=[node_pb2.LinkReport(to_node="n")])), "bad-report"),
        ((HELLO, report(roster=b"\xff\xff")), "bad-report"),
        ((standby(), report()), "hello-missing"),
        ((standby(), standby()), "hello-missing"),
        ((standby(node="Frankfurt"),), "bad-hello"),
        ((HELLO, standby()), "unexpected-message"),
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
    for rhythm in ("SNAPSHOT_INTERVAL_S", "ROUND_S"):
        monkeypatch.setattr(nodes_grpc, rhythm, 0.05)
    async with relays(api, "eu-frankfurt") as (node,):
        await eventually(
            lambda: None if len(node.snapshots) >= 12 else f"{len(node.snapshots)} came"
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
                    )
                ],
            )
        ]

        async def live() -> str | None:
            seat = (await api.call("GET", "/v1/rooms/r/participants/ana")).json
            return None if seat["live"] else f"{seat}"

        await eventually(live)
        seat = (await api.call("GET", "/v1/rooms/r/participants/ana")).json
        assert seat["tracks"] == [{"id": "t1", "kind": "video", "codec": "vp8"}]


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

    read = ReportReader.read

    def counted(self: ReportReader, message: node_pb2.Report) -> NodeReport:
        taken.append(message.sequence)
        return read(self, message)

    monkeypatch.setattr(ReportReader, "read", counted)
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


# --- warm sessions --------------------------------------------------------------------------------


async def test_a_warm_session_hears_signs_of_life_and_becomes_active_by_its_hello(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_grpc, "KEEPALIVE_S", 0.05)
    async with api.channel(OWN) as channel:
        call = node_pb2_grpc.NodeServiceStub(channel).Session()
        await call.write(standby())
        for _ in range(3):
            assert await call.read() == node_pb2.SessionResponse()
        assert (await api.call("GET", "/v1/nodes")).json == {"nodes": []}
        assert "thalweg_node_standbys 1.0" in (await api.call("GET", "/metrics")).text
        await call.write(HELLO)
        await call.write(report(load=0.1))
        heard: list[Any] = []
        while not any(one.HasField("snapshot") for one in heard):
            heard.append(await call.read())

        async def serves() -> str | None:
            await call.write(report(load=0.1))  # a slow machine must not take it for silent
            state: str = (await api.call("GET", f"/v1/nodes/{NODE}")).json["state"]
            return None if state == "serving" else state

        await eventually(serves)
        assert "thalweg_node_standbys 0.0" in (await api.call("GET", "/metrics")).text
        call.cancel()


async def test_only_the_certificate_says_who_stands_by(api: Api) -> None:
    ended = await refusal(api, OWN, standby(node="another"))
    assert ended.code() == grpc.StatusCode.PERMISSION_DENIED
    ended = await refusal(api, OWN, standby(), FakeRelay("another", REGION).hello())
    assert ended.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_node_does_not_stand_by_where_it_is_active(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        ended = await refusal(api, OWN, standby())
        assert (ended.details() or "").startswith("already-active: ")


async def test_warm_sessions_are_bounded_and_the_newest_of_a_node_stays(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_sessions, "MAX_STANDBYS", 1)
    async with api.channel(OWN) as channel:
        stub = node_pb2_grpc.NodeServiceStub(channel)
        first, second = stub.Session(), stub.Session()
        await first.write(standby())
        assert await first.read() == node_pb2.SessionResponse()
        await second.write(standby())
        assert await second.read() == node_pb2.SessionResponse()
        assert await first.read() == grpc.aio.EOF
        other = certificate("us-virginia-1", "us-virginia")
        ended = await refusal(api, other, standby("us-virginia-1", "us-virginia"))
        assert (ended.details() or "").startswith("too-many-standbys: ")
        second.cancel()


async def test_a_process_that_ends_says_so_before_its_sessions_break(tls_dir: Path) -> None:
    heard: dict[str, list[node_pb2.SessionResponse]] = {"active": [], "warm": []}

    async def listen(call: Any, kind: str) -> None:
        async for response in call:
            heard[kind].append(response)

    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        logs = stack.enter_context(capture_logs())
        async with running(settings(tls_dir)) as api:
            for kind, first in (
                ("active", HELLO),
                ("warm", standby("us-virginia-1", "us-virginia")),
            ):
                bundle = OWN if kind == "active" else certificate("us-virginia-1", "us-virginia")
                channel = await stack.enter_async_context(api.channel(bundle))
                call = node_pb2_grpc.NodeServiceStub(channel).Session()
                await call.write(first)
                group.create_task(listen(call, kind))
            await eventually(lambda: None if all(heard.values()) else "nothing heard")
    assert all(one[-1].ending for one in heard.values())
    # It ended the session itself: what another replica hears of the node by now stands.
    assert "node disconnected" in [line["event"] for line in logs]
    assert [line["after"] for line in logs if line["event"] == "node state"] == []
