"""Where newcomers go: the whole room counts, and of equal nodes the emptiest."""

from collections import Counter
from dataclasses import replace

import pytest

from controlplane.core.allocate import allocate
from controlplane.core.explain import runner_up
from controlplane.core.load import is_ramping
from controlplane.core.model import Decision, Join, Node, NodeId, Policy, Role, RoomId
from controlplane.core.rtt import Estimates, unknown_rtt
from controlplane.core.sums import NOBODY, Sums
from controlplane.core.world import World
from tests.core.build import (
    NOW,
    join,
    node,
    one_node_each,
    region,
    rtts,
    seat,
    sums,
    topology,
    with_node,
    world,
)

IN_FRANKFURT = rtts(
    {
        "eu-frankfurt": 5,
        "eu-paris": 15,
        "us-virginia": 92,
        "ap-singapore": 165,
        "ap-sydney": 255,
    }
)
IN_VIRGINIA = rtts(
    {"eu-frankfurt": 91, "eu-paris": 84, "us-virginia": 4, "ap-singapore": 224, "ap-sydney": 210}
)

EDGE_WEIGHT = Policy().edge_weight


def decide(
    who: Join,
    view: World,
    estimates: Estimates = IN_FRANKFURT,
    others: Sums = NOBODY,
) -> Decision:
    decision = allocate(who, others, view, estimates, now=NOW)
    assert isinstance(decision, Decision), decision
    return decision


def on(view: World, id_: str) -> Node:
    return view.nodes[NodeId(id_)]


def test_the_first_joiner_goes_to_the_nearest_region() -> None:
    decision = decide(join(), one_node_each())
    assert decision.node == "eu-frankfurt-1"
    assert decision.because[0] == "Frankfurt answers in 5 ms (probe)"
    assert "first in the room" in decision.because[1]
    assert [one.node for one in decision.candidates][:2] == ["eu-frankfurt-1", "eu-paris-1"]
    assert decision.others == 0


def test_every_region_that_has_nodes_is_a_candidate_once() -> None:
    view = with_node(one_node_each(), node("eu-frankfurt-2", "eu-frankfurt"))
    candidates = decide(join(), view).candidates
    assert sorted(one.region for one in candidates) == sorted(topology().regions)
    alone = world([node("fra-1", "eu-frankfurt")])
    assert [one.region for one in decide(join(), alone).candidates] == ["eu-frankfurt"]


def test_the_whole_room_counts_not_only_the_newcomer() -> None:
    view = one_node_each()
    others = sums(seat("bob", on(view, "eu-paris-1")), seat("cem", on(view, "eu-paris-1")))
    nearer_by_a_hair = rtts(
        {**dict.fromkeys(topology().regions, 200.0), "eu-frankfurt": 14, "eu-paris": 15}
    )
    decision = decide(join(), view, nearer_by_a_hair, others)
    assert decision.node == "eu-paris-1"
    sentences = " / ".join(decision.because)
    assert "joining 2 others here costs the room" in sentences
    assert "less than Frankfurt" in sentences
    assert "Frankfurt is nearer (14 ms) but costs the room" in sentences
    assert "eu-paris-1 already carries the room" in sentences


def test_far_people_still_get_an_edge_of_their_own() -> None:
    view = one_node_each(topology(policy=Policy(edge_weight=0.3)))
    others = sums(*(seat(f"p{i}", on(view, "eu-frankfurt-1"), 8) for i in range(5)))
    decision = decide(join(), view, IN_VIRGINIA, others)
    assert decision.node == "us-virginia-1"
    # The way to the others is longer from here; what wins is the repair of loss.
    assert decision.because[1].startswith("costs the room ")
    assert decision.because[1].endswith(
        "less than Frankfurt, mostly by repairing loss nearer to the client"
    )


def test_edge_weight_zero_pulls_people_together() -> None:
    view = one_node_each(topology(policy=Policy(edge_weight=0.0)))
    others = sums(seat("bob", on(view, "eu-frankfurt-1"), 8))
    assert decide(join(), view, IN_VIRGINIA, others).region == "eu-frankfurt"


def test_the_delay_term_is_the_one_way_delay() -> None:
    view = one_node_each()
    others = sums(seat("bob", on(view, "us-virginia-1"), 20))
    terms = {str(one.node): one.terms for one in decide(join(), view, others=others).candidates}
    assert terms["eu-frankfurt-1"]["delay"] == pytest.approx((5 + 90 + 20) / 2 + 2)
    assert terms["eu-frankfurt-1"]["edge"] == pytest.approx(EDGE_WEIGHT * (5 + 20) / 2)
    assert terms["us-virginia-1"]["delay"] == pytest.approx((92 + 20) / 2 + 1)


def test_viewers_are_placed_by_the_publishers_alone() -> None:
    view = one_node_each()
    others = sums(
        seat("bob", on(view, "us-virginia-1")),
        *(seat(f"v{i}", on(view, "ap-sydney-1"), role=Role.VIEWER) for i in range(9)),
    )
    undecided = rtts(dict.fromkeys(topology().regions, 50.0))
    assert decide(join(role=Role.VIEWER), view, undecided, others).region == "us-virginia"
    assert decide(join(role=Role.PUBLISHER), view, undecided, others).region == "ap-sydney"


def test_a_viewer_among_viewers_sits_at_the_nearest_node_of_the_room() -> None:
    view = with_node(one_node_each(), node("eu-frankfurt-0", "eu-frankfurt"))
    others = sums(seat("v1", on(view, "eu-frankfurt-1"), role=Role.VIEWER))
    assert decide(join(role=Role.VIEWER), view, others=others).node == "eu-frankfurt-1"


def test_a_room_stays_on_its_node_while_that_has_headroom() -> None:
    busy, empty = node("fra-b", "eu-frankfurt", load=0.85), node("fra-a", "eu-frankfurt")
    others = sums(seat("bob", busy))
    assert decide(join(), world([busy, empty]), others=others).node == "fra-b"
    crowded = replace(busy, load=0.95)
    decision = decide(join(), world([crowded, empty]), others=others)
    assert decision.node == "fra-a"


def test_one_in_a_hundred_on_a_node_is_enough_to_stay() -> None:
    mine, other, far = (
        node("fra-2", "eu-frankfurt"),
        node("fra-1", "eu-frankfurt"),
        node("sin-1", "ap-singapore"),
    )
    others = sums(seat("bob", mine), *(seat(f"p{i}", far) for i in range(99)))
    assert decide(join(), world([mine, other, far]), others=others).node == "fra-2"


def test_inside_a_region_the_least_corrected_load_wins() -> None:
    a = node("fra-a", "eu-frankfurt", load=0.20, capacity=1000)
    b = node("fra-b", "eu-frankfurt", load=0.30, capacity=1000)
    assert decide(join(), world([a, b], placed={"fra-a": 90})).node == "fra-a"
    decision = decide(join(), world([a, b], placed={"fra-a": 110}))
    assert decision.node == "fra-b"
    assert "least loaded of 2 nodes" in " ".join(decision.because)


def test_equals_are_told_apart_by_the_room_and_not_by_their_order() -> None:
    twins = [node(f"fra-{name}", "eu-frankfurt") for name in "abc"]
    for number in range(20):
        who = replace(join(), room=RoomId(f"room-{number}"))
        assert decide(who, world(twins)) == decide(who, world(twins[::-1]))


def most_before_ramping(one: Node) -> int:
    """How many may be on their way to a node before its neighbours come first."""
    return next(count for count in range(10_000) if is_ramping(one, count + 1))


def test_a_node_to_which_many_are_on_their_way_comes_after_its_neighbours() -> None:
    empty, busier = node("fra-a", "eu-frankfurt"), node("fra-b", "eu-frankfurt", load=0.6)
    few = most_before_ramping(empty)
    assert decide(join(), world([empty, busier], placed={"fra-a": few})).node == "fra-a"
    assert decide(join(), world([empty, busier], placed={"fra-a": few + 1})).node == "fra-b"


def test_a_rooms_own_node_loses_its_hold_while_many_are_on_their_way_to_it() -> None:
    mine, other = node("fra-a", "eu-frankfurt", capacity=400), node("fra-b", "eu-frankfurt")
    others = sums(*(seat(f"p{i}", mine) for i in range(3)))
    few = most_before_ramping(mine)
    assert (
        decide(join(), world([mine, other], placed={mine.id: few}), others=others).node == "fra-a"
    )
    after = world([mine, other], placed={mine.id: few + 1})
    assert decide(join(), after, others=others).node == "fra-b"


def test_a_ramping_node_is_still_better_than_none() -> None:
    only = node("fra-a", "eu-frankfurt")
    view = world([only], placed={only.id: most_before_ramping(only) + 1})
    assert decide(join(), view).node == "fra-a"


def test_fallbacks_are_the_best_others_in_other_regions_first() -> None:
    view = with_node(one_node_each(), node("eu-frankfurt-2", "eu-frankfurt"))
    assert decide(join(), view).fallbacks == ("eu-paris-1", "us-virginia-1")
    loads = {"fra-0": 0.1, "fra-1": 0.3, "fra-2": 0.5, "fra-3": 0.7}
    alone = world([node(id_, "eu-frankfurt", load=load) for id_, load in loads.items()])
    assert decide(join(), alone).fallbacks == ("fra-1", "fra-2")
    assert decide(join(), world([node("fra-1", "eu-frankfurt")])).fallbacks == ()


def test_rooms_of_unknown_people_spread_over_equal_nodes() -> None:
    view = one_node_each()
    nowhere = Estimates({region: unknown_rtt() for region in topology().regions})
    chosen = Counter(
        decide(replace(join(), room=RoomId(f"room-{i}")), view, nowhere).node for i in range(600)
    )
    assert len(chosen) == len(view.nodes)
    assert max(chosen.values()) < 2 * 600 / len(view.nodes)
    assert "all regions look alike" in decide(join(), view, nowhere).because[1]


def test_nobody_known_anything_about_still_joins_their_room() -> None:
    view = one_node_each()
    others = sums(seat("bob", on(view, "us-virginia-1")))
    decision = decide(join(), view, Estimates({}), others)
    assert decision.region == "us-virginia"
    assert "Nothing is known" in decision.because[0]


def test_notes_about_set_aside_probes_are_passed_on() -> None:
    estimates = replace(IN_FRANKFURT, notes=("The probe of mars is set aside.",))
    assert (
        decide(join(), one_node_each(), estimates).because[-1] == "The probe of mars is set aside."
    )


def test_the_runner_up_is_the_best_of_another_region() -> None:
    view = with_node(one_node_each(), node("eu-frankfurt-2", "eu-frankfurt"))
    best = runner_up(decide(join(), view))
    assert best is not None
    assert best[0].region == region("eu-paris")
    assert best[1] == pytest.approx((15 - 5) / 2 + EDGE_WEIGHT * 10)
    assert runner_up(decide(join(), world([node("fra-1", "eu-frankfurt")]))) is None
