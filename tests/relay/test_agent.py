"""The node's agent against a NodeService on real gRPC."""

import asyncio
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from thalweg.v1 import common_pb2, node_pb2

from relay.api.agent import Agent, Introduction, Parts
from relay.api.snapshot import SnapshotFile
from relay.api.state import NodeState
from relay.core.rooms import Rooms
from relay.core.track import Track
from relay.engines.base import ParticipantStatus
from relay.engines.embedded.engine import EmbeddedEngine
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Endpoint
from relay.trunk.peer_rtt import PeerRtts
from tests.fakes.node_service_grpc import FakeNodeService
from tests.fakes.trunk_node import HOST, REGION, Camera, TrunkNode, node_tls
from tests.fakes.waiting import eventually


class Guests(EmbeddedEngine):
    """An engine whose participants a test makes up."""

    def __init__(self, rooms: Rooms) -> None:
        super().__init__(rooms, node="a", bind=(HOST, 0), advertise=(HOST, 0))
        self.guests: list[ParticipantStatus] = []
        self.ended: list[tuple[str, str, int, str]] = []

    def participants(self) -> Sequence[ParticipantStatus]:
        return self.guests

    def end_participant(
        self, room: str, participant: str, *, up_to_epoch: int, reason: str
    ) -> None:
        self.ended.append((room, participant, up_to_epoch, reason))


class Subject:
    """A node, as far as its agent sees it."""

    def __init__(self, directory: Path, *ports: int) -> None:
        self.rooms = Rooms()
        self.engine = Guests(self.rooms)
        self.state = NodeState("a", capacity=4)
        self.trunks = TrunkManager("a", self.rooms)
        self.rtts = PeerRtts("a", HOST)
        introduction = Introduction(
            "a", REGION, "http://x", Endpoint(HOST, 5000), "x:1", "0.1.0", "embedded"
        )
        self.agent = Agent(
            introduction,
            Parts(self.state, self.engine, self.trunks, self.rtts),
            SnapshotFile(directory),
            node_tls("a"),
            [f"{HOST}:{port}" for port in ports],
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Subject"]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.agent.run())
            try:
                yield self
            finally:
                self.state.stopping = True
                task.cancel()


def snapshot(version: int = 1, nonce: str = "n1", **changes: object) -> node_pb2.Snapshot:
    message = node_pb2.Snapshot(
        version=version,
        nonce=nonce,
        links=[node_pb2.LinkSpec(room="r", from_node="a", to_node="b")],
        peers=[
            node_pb2.PeerSpec(
                node="b",
                region="us",
                trunk_target="127.0.0.1:1",
                media=common_pb2.UdpEndpoint(host=HOST, port=9),
            )
        ],
        token_keys=[node_pb2.PublicKey(kid="k", ed25519=bytes(32))],
        report_interval_ms=500,
    )
    message.MergeFrom(node_pb2.Snapshot(**changes))  # type: ignore[arg-type]
    return message


@pytest.fixture
async def service() -> AsyncIterator[FakeNodeService]:
    async with FakeNodeService().running() as running:
        yield running


async def test_the_node_says_who_it_is_and_reports(
    service: FakeNodeService, tmp_path: Path
) -> None:
    async with Subject(tmp_path, service.port).running():
        await eventually(lambda: None if len(service.reports) >= 2 else "no reports")
    [hello] = service.hellos
    assert (hello.node, hello.region, hello.capacity, hello.kept_snapshot) == ("a", REGION, 4, 0)
    assert (hello.media.host, hello.media.port, hello.engine) == (HOST, 5000, "embedded")
    assert [report.sequence for report in service.reports[:2]] == [1, 2]


async def test_a_snapshot_is_applied_and_acknowledged(
    service: FakeNodeService, tmp_path: Path
) -> None:
    end = node_pb2.EndSession(room="r", participant="ana", epoch=3, reason="moved")
    async with Subject(tmp_path, service.port).running() as node:
        service.send(snapshot(7, "x", draining=True, end_sessions=[end]))
        await eventually(service.answered("x"))
        [result] = service.results
        assert (result.version, result.error) == (7, "")
        assert dict(node.state.token_keys.keys) == {"k": bytes(32)}
        assert node.state.draining
        assert node.engine.ended == [("r", "ana", 3, "moved")]
        refusals = [
            node.state.admission.refusal(
                ("r", "ana"), epoch, present=frozenset(), capacity=4, draining=False
            )
            for epoch in (3, 4)
        ]
        assert [one.code if one else None for one in refusals] == ["stale_epoch", None]
        node.trunks.tick(0.0)
        assert node.trunks.trunks.keys() == {"b"}


PEER = node_pb2.PeerSpec(node="c", region="us", trunk_target="h:1")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"links": [node_pb2.LinkSpec(room="r", from_node="a", to_node="z")]}, "not among the peers"),
        ({"links": [node_pb2.LinkSpec(room="r", from_node="b", to_node="c")]}, "is not between a and"),
        ({"links": [node_pb2.LinkSpec(room="r", from_node="a", to_node="a")]}, "is not between a and"),
        ({"links": [node_pb2.LinkSpec(room="/", from_node="a", to_node="b")]}, "is not a room id"),
        ({"token_keys": [node_pb2.PublicKey(kid="s", ed25519=b"short")]}, "has 5 bytes and not 32"),
        ({"peers": [PEER, PEER]}, "named twice"),
        ({"peers": [node_pb2.PeerSpec(node="C", region="us", trunk_target="h:1")]}, "node or region"),
        ({"peers": [node_pb2.PeerSpec(node="c", region="us", trunk_target="h")]}, "host:port"),
        ({"control_planes": ["x"]}, "no control plane"),
        ({"end_sessions": [node_pb2.EndSession(room="r", participant="")]}, "is not an id"),
    ],
)  # fmt: skip
async def test_a_faulty_snapshot_is_refused_whole(
    service: FakeNodeService, tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    async with Subject(tmp_path, service.port).running() as node:
        service.send(snapshot(1, "good"))
        await eventually(service.answered("good"))
        service.send(snapshot(2, "bad", draining=True, **changes))
        await eventually(service.answered("bad"))
        assert service.results[1].version == 2
        assert why in service.results[1].error
        assert not node.state.draining
        assert dict(node.state.token_keys.keys) == {"k": bytes(32)}
    kept = node_pb2.Snapshot.FromString((tmp_path / "snapshot.pb").read_bytes())
    assert kept.version == 1


async def test_the_node_starts_from_what_it_kept(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    async with FakeNodeService().running() as service, Subject(directory, service.port).running():
        service.send(snapshot(9, "x"))
        await eventually(service.answered("x"))
        port = service.port
    file = directory / "snapshot.pb"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == ["snapshot.pb"]

    async with Subject(directory, port).running() as node:  # the control plane is away
        await eventually(lambda: None if node.state.token_keys.keys else "nothing loaded")
        async with FakeNodeService().running(port) as service:
            await eventually(lambda: None if service.hellos else "not called")
            assert service.hellos[0].kept_snapshot == 9


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"junk" * 100])
async def test_a_kept_snapshot_that_broke_is_passed_over(
    service: FakeNodeService, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "snapshot.pb").write_bytes(content)
    async with Subject(tmp_path, service.port).running():
        service.send(snapshot(1, "x"))
        await eventually(service.answered("x"))


async def test_the_agent_comes_back_when_the_session_breaks(
    service: FakeNodeService, tmp_path: Path
) -> None:
    async with Subject(tmp_path, service.port).running() as node:
        service.send(snapshot(1, "x"))
        await eventually(service.answered("x"))
        for sessions in (2, 3):
            service.hang_up()
            await eventually(
                lambda sessions=sessions: (  # type: ignore[misc]
                    None if len(service.hellos) == sessions else f"{len(service.hellos)} hellos"
                )
            )
        assert node.state.token_keys.keys  # nothing of the node's orders is lost meanwhile


async def test_a_change_is_reported_at_once(service: FakeNodeService, tmp_path: Path) -> None:
    async with (
        TrunkNode("a").running() as publishing,
        Subject(tmp_path, service.port).running() as node,
    ):
        service.send(snapshot(1, "x", report_interval_ms=2000))
        await eventually(service.answered("x"))
        await eventually(lambda: None if service.reports else "no report")
        await asyncio.sleep(0.7)  # the interval of before is over
        before = len(service.reports)
        camera = Camera(publishing)
        camera.send()
        tracks: tuple[Track, ...] = (camera.track,)
        node.engine.guests.append(ParticipantStatus("r", "ana", 5, tracks, 2, 12.5))
        await eventually(
            lambda: None if len(service.reports) > before else "not reported", timeout=0.6
        )
        report = service.reports[before]
        [guest] = node_pb2.Roster.FromString(report.roster).participants
        assert (guest.participant, guest.epoch, guest.slots) == ("ana", 5, 2)
        assert list(report.figures.rtt_ms) == [12.5]
        assert [(t.id, t.kind, t.codec.name) for t in guest.tracks] == [
            ("ana-video", common_pb2.MEDIA_KIND_VIDEO, "vp8")
        ]
        assert report.load == 0.25
        camera.send()  # a counter alone is no news
        await asyncio.sleep(0.4)
        assert len(service.reports) == before + 1
