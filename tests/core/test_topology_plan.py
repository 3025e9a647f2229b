from dataclasses import replace

import pytest

from controlplane.core.mesh import region_matrix
from controlplane.core.model import (
    Assignment,
    Location,
    NodeState,
    Policy,
    Region,
    RegionId,
    Requirements,
    Role,
    Room,
    RoomId,
    RttEstimate,
    RttSource,
    Topology,
)
from controlplane.core.topology_plan import plan_change, world_after
from controlplane.core.world import World
from tests.core.build import NOW, node, region, seat, topology, world

FRA, PAR, VIR = (
    node("fra-1", "eu-frankfurt"),
    node("par-1", "eu-paris"),
    node("vir-1", "us-virginia"),
)
CLOSE = topology("eu-frankfurt", "eu-paris", "us-virginia")
MADRID = Region(
    RegionId("eu-madrid"), "Madrid", Location(40.4, -3.7), frozenset({"eu"}), desired_nodes=2
)


def without(before: Topology, *gone: str) -> Topology:
    return replace(
        before,
        regions={id_: one for id_, one in before.regions.items() if id_ not in gone},
        links=tuple(link for link in before.links if not set(link.between) & set(gone)),
    )


def adding(before: Topology, one: Region) -> Topology:
    return replace(before, regions={**before.regions, one.id: one})


def someone(who: str, on: str = "fra-1", room: str = "standup", **rtts: float) -> Assignment:
    home = {"fra-1": FRA, "par-1": PAR, "vir-1": VIR}[on]
    known = {
        region({"fra": "eu-frankfurt", "par": "eu-paris", "vir": "us-virginia"}[id_]): RttEstimate(
            value, 1.0, RttSource.PROBE
        )
        for id_, value in rtts.items()
    }
    made = seat(who, home)
    return replace(made, room=RoomId(room), rtts={**made.rtts, **known}, live=True)


def a_room(id_: str, *people: Assignment) -> Room:
    return Room(RoomId(id_), {one.participant: one for one in people})


EVERYWHERE = world([FRA, PAR, VIR], CLOSE)


def test_the_same_topology_moves_nobody_and_changes_no_delay() -> None:
    people = [someone("ana", fra=5, par=12, vir=90), someone("bob", "vir-1", vir=4, fra=92, par=95)]
    plan = plan_change(EVERYWHERE, CLOSE, [a_room("standup", *people)], now=NOW)
    assert plan.moves == plan.residency_breaks == ()
    assert plan.delay_before == plan.delay_after
    assert plan.delay_before.rooms == 1
    assert (plan.rooms_examined, plan.people_examined) == (1, 2)


def test_people_of_a_region_that_goes_have_to_move_to_the_best_that_is_left() -> None:
    people = [someone("ana", fra=5, par=12, vir=90), someone("bob", fra=6, par=11, vir=95)]
    plan = plan_change(
        EVERYWHERE, without(CLOSE, "eu-frankfurt"), [a_room("standup", *people)], now=NOW
    )
    assert [(one.participant, one.from_node, one.to_node, one.gain_ms) for one in plan.moves] == [
        ("ana", "fra-1", "par-1", None),
        ("bob", "fra-1", "par-1", None),
    ]
    assert {one.because for one in plan.moves} == {"eu-frankfurt would be removed"}
    assert plan.stranded == ()
    assert plan.delay_before.p50_ms == pytest.approx(6.5, abs=5)
    assert plan.delay_after.p50_ms == pytest.approx(11.5 + 1, abs=0.1)


def test_whom_nobody_can_take_is_said() -> None:
    bound = replace(
        someone("ana"), require=Requirements(regions=frozenset({region("eu-frankfurt")}))
    )
    after = without(CLOSE, "eu-frankfurt")
    plan = plan_change(EVERYWHERE, after, [a_room("standup", bound)], now=NOW)
    (move,) = plan.stranded
    assert (move.to_node, move.to_region) == (None, None)
    assert move.because.startswith("eu-frankfurt would be removed, and nobody can take it: ")


def test_a_tag_that_goes_breaks_the_rule_of_those_who_require_it() -> None:
    frankfurt = replace(CLOSE.regions[region("eu-frankfurt")], residency=frozenset({"eu"}))
    bound = replace(
        someone("ana", fra=5, par=12), require=Requirements(residency=frozenset({"gdpr"}))
    )
    room = a_room("standup", bound, someone("bob", fra=5, par=12))
    plan = plan_change(EVERYWHERE, adding(CLOSE, frankfurt), [room], now=NOW)
    (broken,) = plan.residency_breaks
    assert (broken.participant, broken.to_node) == ("ana", "par-1")
    assert broken.because == "eu-frankfurt would no longer carry gdpr"
    assert broken in plan.moves


def test_a_rule_that_no_region_would_keep_is_broken_too() -> None:
    bound = replace(someone("ana", "vir-1"), require=Requirements(residency=frozenset({"us"})))
    room = a_room("standup", bound)
    plan = plan_change(EVERYWHERE, without(CLOSE, "us-virginia"), [room], now=NOW)
    assert plan.residency_breaks == plan.stranded == plan.moves
    assert len(plan.moves) == 1


def test_a_region_without_nodes_counts_with_those_that_the_file_wants() -> None:
    after = adding(CLOSE, MADRID)
    changed = world_after(EVERYWHERE, after, now=NOW)
    planned = [one for one in changed.nodes.values() if one.region == MADRID.id]
    assert [(one.id, one.state, one.capacity) for one in planned] == [
        ("eu-madrid-planned-1", NodeState.SERVING, 400),
        ("eu-madrid-planned-2", NodeState.SERVING, 400),
    ]
    plan = plan_change(EVERYWHERE, after, [], now=NOW)
    by_region = {one.region: one for one in plan.capacity}
    assert by_region[MADRID.id].planned
    assert (by_region[MADRID.id].nodes, by_region[MADRID.id].places) == (2, 800)
    assert not by_region[FRA.region].planned
    assert by_region[FRA.region].left_if_lost == 1000


def test_capacity_left_is_negative_when_one_region_carries_too_much() -> None:
    crowded = world([node("fra-1", "eu-frankfurt", load=0.9), node("vir-1", "us-virginia", load=0.5)],
                    topology("eu-frankfurt", "us-virginia"))  # fmt: skip
    plan = plan_change(crowded, crowded.topology, [], now=NOW)
    assert [(one.region, one.in_use, one.left_if_lost) for one in plan.capacity] == [
        ("eu-frankfurt", 90, -40),
        ("us-virginia", 50, -40),
    ]


def test_lost_nodes_give_no_places() -> None:
    gone = world([node("fra-1", "eu-frankfurt", state=NodeState.LOST), VIR], CLOSE)
    plan = plan_change(gone, CLOSE, [], now=NOW)
    (frankfurt,) = [one for one in plan.capacity if one.region == FRA.region]
    assert (frankfurt.places, frankfurt.planned) == (0, False)


def test_measured_paths_stay_and_declared_ones_follow_the_file() -> None:
    pair = (region("eu-frankfurt"), region("us-virginia"))
    measured = {**region_matrix(CLOSE, {pair: 83.0})}
    before = World(CLOSE, EVERYWHERE.nodes, measured)
    after = replace(CLOSE, links=tuple(replace(link, rtt_ms=300.0) for link in CLOSE.links))
    changed = world_after(before, after, now=NOW)
    assert changed.region_rtt[pair] == changed.region_rtt[pair[1], pair[0]] == 83.0
    assert changed.region_rtt[region("eu-frankfurt"), region("eu-paris")] == 300.0


def test_moves_for_a_gain_are_those_that_the_improvement_step_finds() -> None:
    # Everybody is near Paris, and was put in Frankfurt when Paris was not there.
    before = world([FRA, PAR, VIR], without(CLOSE, "eu-paris"))
    people = [someone(who, fra=40, par=2, vir=95) for who in ("ana", "bob", "cem")]
    room = a_room("standup", *people)
    plan = plan_change(before, CLOSE, [room], now=NOW)
    assert {(one.participant, one.to_node) for one in plan.moves} == {
        (who, "par-1") for who in ("ana", "bob", "cem")
    }
    assert all(one.gain_ms is not None and one.gain_ms >= 3 for one in plan.moves)
    assert plan.delay_after.p50_ms is not None
    assert plan.delay_before.p50_ms is not None
    assert plan.delay_after.p50_ms < plan.delay_before.p50_ms - 3
    reluctant = replace(CLOSE, policy=Policy(rehome_gain_ms=10_000))
    assert plan_change(before, reluctant, [room], now=NOW).moves == ()


def test_the_figures_are_over_rooms_in_which_somebody_hears_somebody() -> None:
    rooms = [a_room("alone", someone("ana", room="alone"))]
    rooms += [
        a_room(
            f"r{index}",
            replace(someone("ana", room=f"r{index}", fra=index)),
            replace(someone("bob", room=f"r{index}", fra=index), role=Role.VIEWER),
        )
        for index in range(1, 21)
    ]
    plan = plan_change(EVERYWHERE, CLOSE, rooms, now=NOW)
    assert (plan.delay_before.rooms, plan.rooms_examined) == (20, 21)
    assert plan.delay_before.p50_ms == pytest.approx(11)
    assert plan.delay_before.p95_ms == pytest.approx(20)


def test_the_order_of_rooms_and_people_changes_nothing() -> None:
    rooms = [
        a_room(
            f"r{index}",
            *(
                someone(who, room=f"r{index}", fra=5, par=12, vir=90)
                for who in ("ana", "bob", "cem")
            ),
        )
        for index in range(4)
    ]
    turned = [Room(room.id, dict(reversed(list(room.assignments.items())))) for room in rooms]
    after = without(CLOSE, "eu-frankfurt")
    assert plan_change(EVERYWHERE, after, rooms, now=NOW) == plan_change(
        EVERYWHERE, after, turned, now=NOW
    )
