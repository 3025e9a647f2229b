"""Silence is not death: what becomes of people whose node is lost and whom nobody else can take."""

import asyncio

import pytest

from controlplane.core.model import NodeId, ParticipantId
from controlplane.errors import NotFoundError
from controlplane.services.emptying import MOVE_RETRY_S, MOVES_PER_SWEEP
from controlplane.services.judging import FORGET_LOST_S
from controlplane.services.presence import LEASE_AFTER_REPORT_S
from tests.services.system import ROOM, System, a_join, three_regions

ANA = ParticipantId("ana")
FRA = NodeId("fra-1")


async def test_a_node_that_was_only_cut_off_finds_its_people_where_they_were() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt us-virginia")
    await system.serving("fra-1", "eu-frankfurt")
    await system.serving("vir-1", "us-virginia")
    for who in ("frankfurt", "virginia"):
        system.arrive(await system.join(who, who))
    await system.run(1)
    for one in system.nodes.values():
        one.alive = False
    await system.run(60)
    assert len(await system.events("node.lost")) == 2
    assert await system.events("participant.ended") == []
    for one in system.nodes.values():
        one.alive = True
        here = dict(one.here)
        await system.connect(one.id, one.region)
        system.nodes[one.id].here = here
    await system.run(60)
    assert await system.events("participant.ended") == []
    assert await system.events("participant.moved") == []
    assert (await system.fleet.snapshot(FRA)).end_sessions == ()
    assert (await system.joins.look(ROOM, ParticipantId("frankfurt"))).assignment.epoch == 1
    (*_, before, after) = await system.events("cascade.changed")
    assert before.data["links"] == []
    assert len((await system.rooms.view(ROOM)).links) == len(after.data["links"]) == 2  # type: ignore[arg-type]


async def test_those_whom_nobody_can_take_end_when_their_node_is_given_up() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt")
    await system.serving("fra-1", "eu-frankfurt")
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(1)
    await system.kill(system.nodes["fra-1"])
    await system.run(FORGET_LOST_S - 1)
    assert ANA in (await system.store.room(ROOM)).assignments
    await system.run(LEASE_AFTER_REPORT_S + MOVE_RETRY_S + 2)
    (ended,) = await system.events("participant.ended")
    assert ended.data["reason"] == "expired: fra-1 reports no session of this participant"
    with pytest.raises(NotFoundError):
        await system.fleet.node(FRA)


async def test_those_whom_nobody_can_take_do_not_stand_in_the_way_of_others() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt us-virginia")
    await system.serving("fra-1", "eu-frankfurt", capacity=400)
    for index in range(MOVES_PER_SWEEP):
        bound = a_join(f"bound-{index}", "frankfurt", regions=["eu-frankfurt"])
        await system.joins.join(bound)
    await system.join("free", "frankfurt")
    await system.serving("vir-1", "us-virginia")
    await system.kill(system.nodes["fra-1"])
    await system.run(2)
    assert [one.data["participant"] for one in await system.events("participant.moved")] == ["free"]


async def test_a_clock_that_is_set_back_hides_no_death_and_kills_nobody() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(5)
    system.clock.advance(-3600)
    await system.run(3)
    assert await system.events("node.lost") == []
    system.nodes["fra-1"].alive = False
    await system.kill(system.nodes["vir-1"])
    system.clock.advance(-3600)
    await system.run(5)
    assert {one.data["node"] for one in await system.events("node.lost")} == {"fra-1", "vir-1"}


async def test_a_sweep_that_moves_many_lets_others_in_between_and_overwrites_nobody() -> None:
    system = await three_regions()
    for index in range(50):
        await system.join(f"p{index}", "frankfurt")
    await system.kill(system.nodes["fra-1"])
    await system.run(1.25)
    system.clock.advance(0.5)
    async with asyncio.TaskGroup() as group:
        sweep = group.create_task(system.judge.sweep())
        for _ in range(2):
            await asyncio.sleep(0)
        assert 0 < len(await system.events("participant.moved")) < 50
        assert not sweep.done()
        system.clock.advance(0.1)
        await system.report(system.nodes["vir-1"])
    view = await system.fleet.node(NodeId("vir-1"))
    assert view.heard_age_s == 0
    assert len(await system.events("participant.moved")) == 50


async def test_a_place_promised_before_the_clock_was_set_back_is_free_again() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    system.clock.advance(-3600)
    assert (await system.fleet.node(FRA)).placed == 0
    assert system.placements._on_the_way == {}
