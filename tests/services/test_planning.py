"""Dry runs of topologies and drains, on a system with people."""

import asyncio
import threading
from typing import Any

import pytest

from controlplane.core.model import NodeId, RoomId
from controlplane.core.topology_plan import TopologyPlan, plan_change
from controlplane.errors import ConflictError, InvalidInputError, NotFoundError
from controlplane.services import planning
from controlplane.services.planning import Planning
from tests.services.system import System, a_join, parse, three_regions

FRA = NodeId("fra-1")


def planning_of(system: System) -> Planning:
    return Planning(system.store, system.topologies, system.worlds, parse, system.clock)


async def test_a_dry_run_says_who_would_go_where_and_changes_nothing() -> None:
    system = await three_regions()
    for who in ("frankfurt", "virginia", "singapore"):
        system.arrive(await system.join(who, who))
    change = await planning_of(system).topology("eu-frankfurt us-virginia")
    assert (change.summary.version, change.summary.removed) == (1, ("ap-singapore",))
    assert [(one.kind.value, one.section, one.name) for one in change.changes][:2] == [
        ("-", "region", "ap-singapore"),
        ("~", "region", "eu-frankfurt"),
    ]
    (move,) = change.plan.moves
    assert (move.participant, move.from_node, move.to_node) == ("singapore", "sin-1", "fra-1")
    assert move.because == "ap-singapore would be removed"
    assert (change.rooms, change.plan.rooms_examined, change.plan.people_examined) == (1, 1, 3)
    await system.run(2)
    assert (await system.topologies.current()).version == 1
    assert await system.events("participant.moved") == []


async def test_what_a_plan_foretells_is_what_the_sweep_does() -> None:
    system = await three_regions()
    for room in ("r1", "r2"):
        for who in ("frankfurt", "virginia", "singapore"):
            system.arrive(await system.joins.join(a_join(who, who, room=RoomId(room))))
    text = "us-virginia ap-singapore"
    change = await planning_of(system).topology(text)
    foretold = {(one.room, one.participant, one.to_node) for one in change.plan.moves}
    await system.topologies.replace(text, expect_version=1)
    await system.run(3)
    moved = await system.events("participant.moved")
    assert {
        (one.data["room"], one.data["participant"], one.data["node"]) for one in moved
    } == foretold
    assert len(foretold) == 2


async def test_only_so_many_rooms_are_looked_at_and_the_answer_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "MAX_ROOMS", 4)
    monkeypatch.setattr(planning, "ROOMS_AT_ONCE", 2)
    system = await three_regions()
    for index in range(6):
        await system.joins.join(a_join("ana", "virginia", room=RoomId(f"room-{index}")))
    change = await planning_of(system).topology("eu-frankfurt ap-singapore")
    assert (change.plan.rooms_examined, change.rooms) == (4, 6)
    assert (len(change.plan.moves), change.summary.would_move_total) == (4, 6)
    monkeypatch.setattr(planning, "MAX_ROOMS", 1000)
    monkeypatch.setattr(planning, "MAX_PEOPLE", 3)
    change = await planning_of(system).topology("eu-frankfurt ap-singapore")
    assert change.plan.rooms_examined == 4


async def test_a_bad_topology_is_refused_before_anything_is_looked_at() -> None:
    system = await three_regions()
    with pytest.raises(InvalidInputError):
        await planning_of(system).topology("mars")


async def test_plans_are_made_beside_the_event_loop_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = await three_regions()
    for index in range(150):
        place = "frankfurt" if index < 90 else "singapore"
        await system.joins.join(a_join("ana", place, room=RoomId(f"room-{index}")))
    threads: list[int] = []
    running: list[int] = []

    def noted(*args: Any, **named: Any) -> TopologyPlan:
        threads.append(threading.get_ident())
        running.append(1)
        assert len(running) == 1
        plan = plan_change(*args, **named)
        running.pop()
        return plan

    monkeypatch.setattr(planning, "plan_change", noted)
    service = planning_of(system)
    text = "us-virginia ap-singapore"
    change, again = await asyncio.gather(service.topology(text), service.topology(text))
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert change == again
    assert len(change.plan.moves) == 90
    assert [(one.region, one.in_use, one.left_if_lost) for one in change.plan.capacity] == [
        ("ap-singapore", 60, -50),
        ("us-virginia", 90, -50),
    ]


async def test_a_drain_can_be_tried_on_paper() -> None:
    system = await three_regions()
    for who in ("ana", "bob"):
        system.arrive(await system.join(who, "frankfurt"))
    plan = await planning_of(system).drain(FRA)
    assert [(one.participant, one.to_node) for one in plan.moves] == [
        ("ana", "vir-1"),
        ("bob", "vir-1"),
    ]
    assert plan.stranded == 0
    await system.run(1)
    assert (await system.fleet.node(FRA)).drain is None
    with pytest.raises(NotFoundError):
        await planning_of(system).drain(NodeId("never"))
    await system.kill(system.nodes["fra-1"])
    await system.run(2)
    with pytest.raises(ConflictError):
        await planning_of(system).drain(FRA)
