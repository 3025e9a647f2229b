"""People who leave a node because an operator or a topology says so."""

from collections import Counter
from dataclasses import replace

import pytest

from controlplane.core.model import NodeId, NodeState, RegionId, RoomId
from controlplane.errors import InvalidInputError
from controlplane.services.emptying import MOVES_PER_SWEEP, REMOVAL_PACE, Leaving
from tests.services.system import System, a_join, three_regions

FRA = NodeId("fra-1")


async def crowd(system: System, count: int, place: str = "frankfurt") -> None:
    """Seat people, each in a room of their own, and let their clients arrive."""
    for index in range(count):
        joined = await system.joins.join(a_join(f"p{index}", place, room=RoomId(f"r{index:03}")))
        system.arrive(joined)
    await system.run(0.5)


async def left(system: System, node: NodeId = FRA) -> int:
    return len(await system.store.assignments_on(node))


# --- the pace itself ------------------------------------------------------------------------------


def test_a_pace_is_kept_over_any_rhythm_of_sweeps() -> None:
    for step_s in (0.25, 0.3, 1.0):
        leaving, moved = Leaving(), 0
        for tick in range(int(20 / step_s)):
            allowed = leaving.allowance(2.0, now=1000 + tick * step_s)
            moved += allowed
            leaving.credit -= allowed
        assert 36 <= moved <= 42


def test_a_pause_is_not_followed_by_a_rush() -> None:
    leaving = Leaving()
    assert leaving.allowance(5.0, now=1000) == 1
    assert leaving.allowance(5.0, now=4600) == 5
    assert leaving.allowance(5.0, now=4599) == 5, "a clock that goes back adds nothing"


def test_a_slow_pace_still_moves_one_at_a_time() -> None:
    leaving, moves = Leaving(), []
    for tick in range(400):
        if leaving.allowance(0.1, now=tick * 0.25):
            moves.append(tick * 0.25)
            leaving.credit -= 1
    assert len(moves) == 10
    assert Leaving().allowance(None, now=0) == MOVES_PER_SWEEP


# --- drains ---------------------------------------------------------------------------------------


async def test_a_drain_with_a_pace_moves_people_one_after_the_other_before_its_deadline() -> None:
    system = await three_regions()
    await crowd(system, 20)
    await system.fleet.drain(FRA, deadline_s=60, reason="new kernel", pace=2)
    await system.run(3)
    assert 12 <= await left(system) <= 15
    await system.run(10)
    assert await left(system) == 0
    (done,) = await system.events("node.drained")
    assert done.data["why"] == "new kernel"
    reasons = {one.data["reason"] for one in await system.events("participant.moved")}
    assert reasons == {"node fra-1 drained: new kernel"}
    view = await system.fleet.node(FRA)
    assert view.drain is not None
    assert (view.drain.done, view.drain.pace) == (True, 2)
    assert view.drain_left_s == pytest.approx(47, abs=1)


async def test_at_the_deadline_a_pace_counts_no_more() -> None:
    system = await three_regions()
    await crowd(system, 40)
    await system.fleet.drain(FRA, deadline_s=2, reason="", pace=1)
    await system.run(1.5)
    assert await left(system) >= 37
    await system.run(1)
    assert await left(system) == 0


async def test_an_undone_drain_stops_moving() -> None:
    system = await three_regions()
    await crowd(system, 10)
    await system.fleet.drain(FRA, deadline_s=60, reason="", pace=2)
    await system.run(1)
    await system.fleet.undrain(FRA)
    stayed = await left(system)
    await system.run(5)
    assert await left(system) == stayed > 0
    assert (await system.fleet.node(FRA)).drain is None


@pytest.mark.parametrize("pace", [0, -1, float("nan"), float("inf"), 1e9])
async def test_a_pace_has_to_be_sane(pace: float) -> None:
    system = await three_regions()
    with pytest.raises(InvalidInputError) as caught:
        await system.fleet.drain(FRA, deadline_s=60, reason="", pace=pace)
    assert caught.value.code == "bad-pace"
    assert (await system.fleet.node(FRA)).node.state is NodeState.SERVING


# --- topologies -----------------------------------------------------------------------------------


async def test_people_of_a_region_that_was_removed_are_moved_at_a_bounded_pace() -> None:
    system = await three_regions()
    await crowd(system, 60)
    await system.topologies.replace("us-virginia ap-singapore", expect_version=1)
    assert (await system.join("late", "frankfurt")).node.id == "vir-1"
    await system.run(1)
    gone = 60 - await left(system)
    assert REMOVAL_PACE - 6 <= gone <= REMOVAL_PACE + 6
    await system.run(4)
    assert await left(system) == 0
    moved = await system.events("participant.moved")
    assert {one.data["reason"] for one in moved} == {
        "region eu-frankfurt was removed from the topology"
    }
    assert Counter(one.data["participant"] for one in moved).most_common(1)[0][1] == 1


async def test_whom_nobody_takes_stays_and_is_tried_again() -> None:
    system = await three_regions()
    joined = await system.joins.join(a_join("ana", "frankfurt", regions=["eu-frankfurt"]))
    system.arrive(joined)
    await system.topologies.replace("us-virginia ap-singapore", expect_version=1)
    await system.run(12)
    assert await left(system) == 1
    assert await system.events("participant.ended") == []
    await system.topologies.replace("eu-frankfurt us-virginia", expect_version=2)
    await system.run(6)
    assert await left(system) == 1
    assert await system.events("participant.moved") == []


async def test_a_region_that_loses_a_tag_loses_the_people_who_require_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = System()
    await system.topologies.load("eu-frankfurt eu-paris")
    await system.serving("fra-1", "eu-frankfurt")
    await system.serving("par-1", "eu-paris")
    for who, residency in (("ana", ["gdpr"]), ("bob", [])):
        join = a_join(who, "frankfurt", regions=[], residency=residency, room=RoomId(who))
        system.arrive(await system.joins.join(join))
    assert await left(system) == 2
    cities = system.topologies  # the parser of tests knows tags by city only
    original = cities._parse

    def without_gdpr(text: str) -> object:
        parsed = original(text)
        frankfurt = parsed.regions[RegionId("eu-frankfurt")]
        changed = replace(frankfurt, residency=frozenset({"eu"}))
        return replace(parsed, regions={**parsed.regions, frankfurt.id: changed})

    monkeypatch.setattr(cities, "_parse", without_gdpr)
    await cities.replace("eu-frankfurt eu-paris", expect_version=1)
    await system.run(2)
    (moved,) = await system.events("participant.moved")
    assert (moved.data["participant"], moved.data["node"]) == ("ana", "par-1")
    assert moved.data["reason"] == "region eu-frankfurt no longer keeps the residency rule"
    await system.run(2)
    assert await left(system) == 1
