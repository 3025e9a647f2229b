import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioice.ice
import pytest
from aiohttp import web

from controlplane.cli.demo_api import DemoApi, RequestRefusedError
from controlplane.cli.demo_client import Participant, stay_on_loopback
from tests.fakes.fake_node import FakeNode
from tests.fakes.waiting import eventually


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    assert stay_on_loopback(["http://127.0.0.1:1"])


@asynccontextmanager
async def in_call(node: FakeNode, heard_of_epoch: int = 0) -> AsyncIterator[Participant]:
    """Put ana into a room of the fake; ana leaves at the end."""
    ana = Participant(id="ana", place="eu-a", look=0, room="r", session="s1", probes={"eu-a": 5.0})
    ana.note_moved(heard_of_epoch)
    async with DemoApi(node.url, "key") as api, asyncio.TaskGroup() as group:
        task = group.create_task(ana.take_part(api, lambda _: None))
        await eventually(lambda: ana.tally.missing(["ben"]), timeout=10)
        yield ana
        task.cancel()


async def test_it_joins_publishes_and_decodes_what_the_slots_say_then_leaves() -> None:
    async with FakeNode("n1", other="ben") as node:
        async with in_call(node) as ana:
            await eventually(lambda: None if len(node.published) == 2 else str(node.published))
            assert ana.tally.detours(["ben"]) == ""
            assert ana.seat is not None
            assert ana.seat.node == "n1"
        assert node.joins == [
            {
                "session": "s1",
                "probes": [{"region": "eu-a", "rtt_ms": [5.0]}],
                "exclude_nodes": [],
            }
        ]
        assert node.left == ["ana"]
        assert sorted(node.closed) == ["/sessions/down", "/sessions/up"]


async def test_hops_are_those_of_the_slot_map() -> None:
    async with FakeNode("n1", other="ben", hops=2) as node, in_call(node) as ana:
        assert "2 trunk hops" in ana.tally.detours(["ben"])


async def test_a_call_that_breaks_is_joined_again_elsewhere_with_the_same_session() -> None:
    async with FakeNode("n1", other="ben") as node, in_call(node) as ana:
        node.node = "n2"
        node.break_slots()
        await eventually(lambda: None if len(node.joins) == 2 else "has not joined again")
        ana.tally.forget()
        await eventually(lambda: ana.tally.missing(["ben"]), timeout=10)
        assert node.joins[1]["session"] == "s1"
        assert node.joins[1]["exclude_nodes"] == ["n1"]
        assert ana.seat is not None
        assert ana.seat.node == "n2"


async def test_news_of_a_newer_assignment_is_followed_and_old_news_is_not() -> None:
    async with FakeNode("n1", other="ben") as node, in_call(node) as ana:
        ana.note_moved(epoch=1)
        await asyncio.sleep(0.1)
        assert len(node.joins) == 1
        ana.note_moved(epoch=2)
        await eventually(lambda: None if len(node.joins) == 2 else "did not follow")
        assert node.joins[1]["exclude_nodes"] == []


async def test_an_event_that_overtakes_the_answer_to_its_own_join_is_no_news() -> None:
    async with FakeNode("n1", other="ben") as node, in_call(node, heard_of_epoch=1) as ana:
        await asyncio.sleep(0.1)
        assert len(node.joins) == 1
        assert ana.seat is not None


async def test_a_refused_publication_is_tried_again_and_the_problem_is_named() -> None:
    async with FakeNode("n1", other="ben") as node:
        problem = {"code": "token-expired", "detail": "It ended.", "hint": "Join again."}
        node.refuse_whip = web.json_response(problem, status=401)
        async with in_call(node) as ana:
            assert len(node.joins) == 2
            assert "401 token-expired It ended. Join again." in ana.trouble


async def test_events_of_a_room_are_read_and_a_broken_stream_is_an_error() -> None:
    async with FakeNode("n1", other="ben") as node, DemoApi(node.url, "key") as api:
        events = api.events("r")
        node.say("participant.moved", {"participant": "ana", "epoch": 2})
        assert await anext(events) == ("participant.moved", {"participant": "ana", "epoch": 2})
        await node._runner.cleanup()
        with pytest.raises(RequestRefusedError, match="the event stream"):
            await anext(events)


async def test_nobody_there_is_an_error_with_the_address() -> None:
    async with FakeNode("n1", other="ben") as node:
        url = node.url
    async with DemoApi(url, "key") as api:
        with pytest.raises(RequestRefusedError, match=url):
            await api.topology_yaml()


def test_public_nodes_keep_aioices_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    before = aioice.ice.get_host_addresses
    assert not stay_on_loopback(["http://127.0.0.1:1", "https://sfu.example.net"])
    assert aioice.ice.get_host_addresses is before
