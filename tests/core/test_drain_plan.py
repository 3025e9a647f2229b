from dataclasses import replace

import pytest

from controlplane.core.drain_plan import plan_drain
from controlplane.core.model import NodeId, ParticipantId, Requirements, RoomId
from tests.core.build import NOW, node, room, seat, topology, world

FRA, PAR, VIR = (
    node("fra-1", "eu-frankfurt"),
    node("par-1", "eu-paris"),
    node("vir-1", "us-virginia"),
)
CLOSE = topology("eu-frankfurt", "eu-paris", "us-virginia")


def test_everybody_on_the_node_goes_where_the_mover_would_put_them() -> None:
    people = room(seat("ana", FRA), seat("bob", FRA), seat("cem", PAR))
    plan = plan_drain(FRA.id, [people], world([FRA, PAR, VIR], CLOSE), now=NOW)
    assert [(move.participant, move.to_node) for move in plan.moves] == [
        ("ana", "par-1"),
        ("bob", "par-1"),
    ]
    assert plan.stranded == 0
    assert all(move.because for move in plan.moves)


def test_places_are_counted_down_as_people_are_planned() -> None:
    small = replace(PAR, capacity=1)
    people = room(*(seat(who, FRA) for who in ("ana", "bob", "cem")))
    plan = plan_drain(FRA.id, [people], world([FRA, small], CLOSE), now=NOW)
    assert [move.to_node for move in plan.moves] == ["par-1", None, None]
    assert plan.stranded == 2
    assert "full" in plan.moves[-1].because


def test_a_requirement_that_no_other_node_keeps_strands_its_owner() -> None:
    bound = replace(seat("ana", FRA), require=Requirements(residency=frozenset({"eu"})))
    plan = plan_drain(FRA.id, [room(bound)], world([FRA, VIR], CLOSE), now=NOW)
    (move,) = plan.moves
    assert move.to_node is None
    assert "us-virginia does not carry eu" in move.because


@pytest.mark.parametrize("count", [0, 3])
def test_rooms_are_taken_in_order_of_id(count: int) -> None:
    rooms = [
        replace(room(replace(seat("ana", FRA), room=RoomId(f"r{index}"))), id=RoomId(f"r{index}"))
        for index in reversed(range(count))
    ]
    plan = plan_drain(NodeId("fra-1"), rooms, world([FRA, PAR], CLOSE), now=NOW)
    assert [move.room for move in plan.moves] == [f"r{index}" for index in range(count)]
    assert {move.participant for move in plan.moves} <= {ParticipantId("ana")}
