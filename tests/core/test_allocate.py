from collections import Counter
from dataclasses import replace

import pytest

from controlplane.core.allocate import RefusalKind, Refused, allocate
from controlplane.core.explain import runner_up
from controlplane.core.liveness import STALE_S
from controlplane.core.model import (
    Decision,
    Join,
    Node,
    NodeId,
    NodeState,
    Policy,
    Role,
    Room,
    RoomId,
    World,
)
from controlplane.core.rtt import Estimates, unknown_rtt
from tests.core.build import (
    NOW,
    join,
    node,
    one_node_each,
    region,
    room,
    rtts,
    seat,
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


def decide(
    who: Join,
    view: World,
    estimates: Estimates = IN_FRANKFURT,
    others: Room | None = None,
    now: float = NOW,
) -> Decision:
    decision = allocate(who, others or room(), view, estimates, now=now)
    assert isinstance(decision, Decision), decision
    return decision


def on(view: World, id_: str) -> Node:
    return view.nodes[NodeId(id_)]


def refuse(who: Join, view: World, now: float = NOW) -> Refused:
    refused = allocate(who, room(), view, IN_FRANKFURT, now=now)
    assert isinstance(refused, Refused), refused
    return refused


def test_the_first_joiner_goes_to_the_nearest_region() -> None:
    decision = decide(join(), one_node_each())
    assert decision.node == "eu-frankfurt-1"
    assert decision.because[0] == "Frankfurt answers in 5 ms (probe)"
    assert "first in the room" in decision.because[1]
    assert [one.node for one in decision.candidates][:2] == ["eu-frankfurt-1", "eu-paris-1"]


def test_the_whole_room_counts_not_only_the_newcomer() -> None:
    view = one_node_each()
    others = room(seat("bob", on(view, "eu-paris-1")), seat("cem", on(view, "eu-paris-1")))
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
    view = one_node_each()
    others = room(*(seat(f"p{i}", on(view, "eu-frankfurt-1"), 8) for i in range(5)))
    decision = decide(join(), view, IN_VIRGINIA, others)
    assert decision.node == "us-virginia-1"
    # The way to the others is longer from here; what wins is the repair of loss.
    assert decision.because[1].startswith("costs the room ")
    assert decision.because[1].endswith(
        "less than Frankfurt, mostly by repairing loss nearer to the client"
    )


def test_edge_weight_zero_pulls_people_together() -> None:
    view = one_node_each(topology(policy=Policy(edge_weight=0.0)))
    others = room(seat("bob", on(view, "eu-frankfurt-1"), 8))
    assert decide(join(), view, IN_VIRGINIA, others).region == "eu-frankfurt"


def test_the_delay_term_is_the_one_way_delay() -> None:
    view = one_node_each()
    others = room(seat("bob", on(view, "us-virginia-1"), 20))
    terms = {str(one.node): one.terms for one in decide(join(), view, others=others).candidates}
    assert terms["eu-frankfurt-1"]["delay"] == pytest.approx((5 + 90 + 20) / 2 + 2)
    assert terms["eu-frankfurt-1"]["edge"] == pytest.approx(0.3 * (5 + 20) / 2)
    assert terms["us-virginia-1"]["delay"] == pytest.approx((92 + 20) / 2 + 1)


def test_viewers_are_placed_by_the_publishers_alone() -> None:
    view = one_node_each()
    others = room(
        seat("bob", on(view, "us-virginia-1")),
        *(seat(f"v{i}", on(view, "ap-sydney-1"), role=Role.VIEWER) for i in range(9)),
    )
    undecided = rtts(dict.fromkeys(topology().regions, 50.0))
    assert decide(join(role=Role.VIEWER), view, undecided, others).region == "us-virginia"
    assert decide(join(role=Role.PUBLISHER), view, undecided, others).region == "ap-sydney"


def test_a_viewer_among_viewers_sits_at_the_nearest_node_of_the_room() -> None:
    view = with_node(one_node_each(), node("eu-frankfurt-0", "eu-frankfurt"))
    others = room(seat("v1", on(view, "eu-frankfurt-1"), role=Role.VIEWER))
    assert decide(join(role=Role.VIEWER), view, others=others).node == "eu-frankfurt-1"


def test_a_room_stays_on_its_node_while_that_has_headroom() -> None:
    busy, empty = node("fra-b", "eu-frankfurt", load=0.85), node("fra-a", "eu-frankfurt")
    others = room(seat("bob", busy))
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
    others = room(seat("bob", mine), *(seat(f"p{i}", far) for i in range(99)))
    assert decide(join(), world([mine, other, far]), others=others).node == "fra-2"


def test_inside_a_region_the_least_corrected_load_wins() -> None:
    a = node("fra-a", "eu-frankfurt", load=0.20, placed=15)
    b = node("fra-b", "eu-frankfurt", load=0.30)
    decision = decide(join(), world([a, b]))
    assert decision.node == "fra-b"
    assert "least loaded of 2 nodes" in " ".join(decision.because)


def test_equals_are_told_apart_by_id() -> None:
    twins = [node("fra-b", "eu-frankfurt"), node("fra-a", "eu-frankfurt")]
    assert decide(join(), world(twins)).node == "fra-a"
    assert decide(join(), world(reversed(twins))).node == "fra-a"


def test_a_burst_within_one_report_interval_does_not_pile_up() -> None:
    """92 joins of as many rooms in 31 s, while twelve nodes report nothing new (Jicofo's issue 1298)."""
    nodes = {f"fra-{i:02}": node(f"fra-{i:02}", "eu-frankfurt", capacity=400) for i in range(12)}
    for number in range(92):
        chosen = decide(join(f"p{number}"), world(nodes.values())).node
        nodes[chosen] = replace(
            nodes[chosen], placed_since_report=nodes[chosen].placed_since_report + 1
        )
    placed = [one.placed_since_report for one in nodes.values()]
    assert max(placed) <= 1.3 * 92 / 12


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        (
            node(
                "eu-frankfurt-1", "eu-frankfurt", state=NodeState.DRAINING, why="draining: kernel"
            ),
            "draining",
        ),
        (node("eu-frankfurt-1", "eu-frankfurt", state=NodeState.JOINING), "joining"),
        (
            node("eu-frankfurt-1", "eu-frankfurt", state=NodeState.SUSPECT, why="session broken"),
            "suspect",
        ),
        (node("eu-frankfurt-1", "eu-frankfurt", state=NodeState.LOST), "lost"),
        (node("eu-frankfurt-1", "eu-frankfurt", heard_at=NOW - STALE_S - 0.1), "stale"),
        (node("eu-frankfurt-1", "eu-frankfurt", load=1.0), "full"),
        (node("eu-frankfurt-1", "eu-frankfurt", load=0.9, placed=10), "full"),
        (node("eu-frankfurt-1", "eu-frankfurt", capacity=0), "full"),
        (node("eu-frankfurt-1", "mars"), "region"),
    ],
)
def test_hard_rules_of_nodes_come_before_scores(changed: Node, rule: str) -> None:
    decision = decide(join(), with_node(one_node_each(), changed))
    assert decision.node == "eu-paris-1"
    refused = next(one for one in decision.candidates if one.node == "eu-frankfurt-1")
    assert refused.score is None
    assert (refused.refusal or "").startswith(f"{rule}: ")
    if rule != "region":
        assert "Frankfurt is nearer (5 ms) but cannot take this participant" in " ".join(
            decision.because
        )


@pytest.mark.parametrize(
    ("who", "rule"),
    [
        (join(residency=["us"]), "residency"),
        (join(regions=["us-virginia", "ap-sydney"]), "region"),
        (join(exclude=["eu-frankfurt-1", "eu-paris-1"]), "excluded"),
    ],
)
def test_hard_rules_of_joins_come_before_scores(who: Join, rule: str) -> None:
    decision = decide(who, one_node_each())
    assert decision.node == "us-virginia-1"
    refusals = {str(one.node): one.refusal for one in decision.candidates}
    assert (refusals["eu-frankfurt-1"] or "").startswith(f"{rule}: ")


def test_all_required_tags_have_to_be_there() -> None:
    refused = refuse(join(residency=["eu", "us"]), one_node_each())
    assert refused.kind is RefusalKind.RESIDENCY
    assert refused.allowed_regions == ()


def test_residency_is_to_blame_when_it_alone_stands_in_the_way() -> None:
    view = one_node_each()
    for id_ in ("eu-frankfurt", "eu-paris"):
        view = with_node(view, node(f"{id_}-1", id_, load=1.0))
    refused = refuse(join(residency=["eu"]), view)
    assert refused.kind is RefusalKind.RESIDENCY
    assert refused.allowed_regions == ("eu-frankfurt", "eu-paris")
    assert "The join's requirements leave eu-frankfurt, eu-paris" in refused.because[0]


def test_residency_is_not_to_blame_when_nobody_could_take_anybody() -> None:
    view = world([node("fra-1", "eu-frankfurt", load=1.0), node("vir-1", "us-virginia", load=1.0)])
    assert refuse(join(residency=["eu"]), view).kind is RefusalKind.CAPACITY


def test_no_nodes_is_told_from_no_capacity() -> None:
    assert refuse(join(), world([])).kind is RefusalKind.NO_NODES
    lost = world([node("fra-1", "eu-frankfurt", state=NodeState.LOST)])
    assert refuse(join(), lost).kind is RefusalKind.NO_NODES
    draining = world([node("fra-1", "eu-frankfurt", state=NodeState.DRAINING)])
    assert refuse(join(), draining).kind is RefusalKind.CAPACITY
    assert "fra-1: draining: " in refuse(join(), draining).because[0]


def test_a_refusal_of_a_large_fleet_stays_short() -> None:
    many = world([node(f"n{i:03}", "eu-frankfurt", load=1.0) for i in range(300)])
    refused = refuse(join(), many)
    assert len(refused.because) < 12
    assert len(refused.candidates) == 300


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


def test_people_whose_lease_is_over_do_not_pull() -> None:
    view = one_node_each()
    ghosts = room(*(seat(f"p{i}", on(view, "ap-sydney-1"), expires_at=NOW - 1) for i in range(50)))
    assert decide(join(), view, others=ghosts).region == "eu-frankfurt"


def test_the_newcomers_own_old_seat_does_not_pull() -> None:
    view = one_node_each()
    before = room(seat("ana", on(view, "ap-sydney-1")))
    assert decide(join("ana"), view, others=before).region == "eu-frankfurt"


def test_nobody_known_anything_about_still_joins_their_room() -> None:
    view = one_node_each()
    others = room(seat("bob", on(view, "us-virginia-1")))
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
    assert best[1] == pytest.approx((15 - 5) / 2 + 0.3 * 10)
    assert runner_up(decide(join(), world([node("fra-1", "eu-frankfurt")]))) is None
