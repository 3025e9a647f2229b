"""The hard rules of placement: who is never chosen, and what is said about it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.allocate import RefusalKind, Refused, allocate
from controlplane.core.liveness import STALE_S
from controlplane.core.model import Decision, Join, Node, NodeId, NodeState
from controlplane.core.openings import OpenNodes
from controlplane.core.rules import RULES, Case, node_refusal, rule_of
from controlplane.core.sums import NOBODY
from controlplane.core.world import World
from tests.core.build import NOW, join, node, one_node_each, region, rtts, with_node, world

IN_FRANKFURT = rtts(
    {
        "eu-frankfurt": 5,
        "eu-paris": 15,
        "us-virginia": 92,
        "ap-singapore": 165,
        "ap-sydney": 255,
    }
)


def decide(who: Join, view: World) -> Decision:
    decision = allocate(who, NOBODY, view, IN_FRANKFURT, now=NOW)
    assert isinstance(decision, Decision), decision
    return decision


def refuse(who: Join, view: World, now: float = NOW) -> Refused:
    refused = allocate(who, NOBODY, view, IN_FRANKFURT, now=now)
    assert isinstance(refused, Refused), refused
    return refused


FRANKFURT = node("eu-frankfurt-1", "eu-frankfurt")


@pytest.mark.parametrize(
    ("changed", "rule", "placed"),
    [
        (replace(FRANKFURT, state=NodeState.DRAINING, why="kernel"), "draining", 0),
        (replace(FRANKFURT, state=NodeState.JOINING), "joining", 0),
        (replace(FRANKFURT, state=NodeState.SUSPECT, why="session broken"), "suspect", 0),
        (replace(FRANKFURT, state=NodeState.LOST), "lost", 0),
        (replace(FRANKFURT, heard_at=NOW - STALE_S - 0.1), "stale", 0),
        (replace(FRANKFURT, load=1.0), "full", 0),
        (replace(FRANKFURT, load=0.9), "full", 10),
        (node("eu-frankfurt-1", "eu-frankfurt", capacity=0), "full", 0),
    ],
)
def test_hard_rules_of_nodes_come_before_scores(changed: Node, rule: str, placed: int) -> None:
    view = replace(with_node(one_node_each(), changed), placed={changed.id: placed})
    decision = decide(join(), view)
    assert decision.node == "eu-paris-1"
    (frankfurt,) = [one for one in decision.candidates if one.region == "eu-frankfurt"]
    assert (frankfurt.node, frankfurt.score) == (None, None)
    assert frankfurt.refused.keys() == {changed.id}
    assert rule_of(frankfurt.refused[changed.id]) == rule
    assert frankfurt.refusal == frankfurt.refused[changed.id]
    assert "Frankfurt is nearer (5 ms) but cannot take this participant" in " ".join(
        decision.because
    )


def test_nodes_of_an_undeclared_region_take_nobody() -> None:
    view = world([node("mars-1", "mars"), node("eu-paris-1", "eu-paris")])
    decision = decide(join(), view)
    assert decision.node == "eu-paris-1"
    (mars,) = [one for one in decision.candidates if one.region == "mars"]
    assert mars.refusal == "region: mars is not declared in the topology"
    assert refuse(join(), world([node("mars-1", "mars")])).candidates[0].region == "mars"


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
    refusals = {one.region: one.refusal for one in decision.candidates}
    assert rule_of(refusals[region("eu-frankfurt")] or "") == rule


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


def test_a_refusal_of_a_large_fleet_names_some_and_lists_all() -> None:
    many = world([node(f"n{i:03}", "eu-frankfurt", load=1.0) for i in range(300)])
    refused = refuse(join(), many)
    assert len(refused.because) < 12
    (frankfurt,) = refused.candidates
    assert len(frankfurt.refused) == 300
    assert frankfurt.refusal == "no node: none of its 300 nodes takes this participant"


def test_a_region_with_a_node_left_names_those_that_refuse() -> None:
    full = node("fra-2", "eu-frankfurt", load=1.0)
    (frankfurt,) = decide(join(), world([FRANKFURT, full])).candidates
    assert frankfurt.node == FRANKFURT.id
    assert frankfurt.refusal is None
    assert frankfurt.refused.keys() == {full.id}


def test_the_first_rule_in_order_is_the_one_that_is_named() -> None:
    ill = replace(
        FRANKFURT, state=NodeState.SUSPECT, heard_at=NOW - 60, load=1.0, why="session broken"
    )
    case = Case(ill, 0, join(exclude=[ill.id]), NOW)
    assert node_refusal(case) == "suspect: session broken"
    assert set(RULES) >= {"suspect", "stale", "full", "excluded"}


nodes = st.builds(
    node,
    st.sampled_from(["n1", "n2", "n3"]),
    st.sampled_from(["eu-frankfurt", "mars"]),
    state=st.sampled_from(NodeState),
    load=st.sampled_from([0.0, 0.5, 0.99, 1.0, 1.5]),
    capacity=st.sampled_from([-1, 0, 1, 100]),
    heard_at=st.sampled_from(
        [NOW + 1, NOW, NOW - STALE_S, NOW - STALE_S - 0.001, NOW - 3600, float("-inf")]
    ),
)


@given(
    st.lists(nodes, max_size=5, unique_by=lambda one: one.id),
    st.sampled_from([0, 1, 50, 10_000]),
    st.sets(st.sampled_from(["n1", "n2", "n3"])),
)
def test_the_quick_test_says_the_same_as_the_rules_with_their_sentences(
    fleet: list[Node], placed: int, exclude: set[str]
) -> None:
    who = join(exclude=exclude)
    view = world(fleet, placed={one.id: placed for one in fleet})
    found = view.openings(now=NOW, exclude=who.exclude_nodes)
    refusals = {one.id: node_refusal(Case(one, placed, who, NOW)) for one in fleet}
    quickly = {one[2].id for open_ in found.by_region.values() for one in open_}
    assert quickly == {id_ for id_, why in refusals.items() if why is None}
    assert all(rule_of(why) in RULES for why in refusals.values() if why is not None)
    assert {one.id for nodes in found.nodes.values() for one in nodes.values()} == set(view.nodes)
    assert found.by_region.keys() == found.nodes.keys() == {one.region for one in fleet}


who = st.sampled_from(["n1", "n2"])
steps = st.one_of(
    st.builds(
        node,
        who,
        st.sampled_from(["eu-frankfurt", "mars"]),
        load=st.sampled_from([0.0, 0.5]),
        capacity=st.just(10),
        heard_at=st.sampled_from([NOW, NOW - STALE_S]),
    ),
    st.tuples(who, st.sampled_from([0, 5])),
    who,
    st.sampled_from([-1.0, 1.0]),
)


@settings(max_examples=500)
@given(st.lists(steps, max_size=12))
def test_what_is_kept_changes_no_answer(series: list[Any]) -> None:
    """Nodes come, report, move and go, people are placed on them, time passes, clocks are set back."""
    kept, now = OpenNodes(), NOW
    fleet: dict[NodeId, Node] = {}
    placed: dict[NodeId, int] = {}
    for step in series:
        match step:
            case Node():
                fleet = {**fleet, step.id: step}
            case (id_, 0):
                placed = {one: count for one, count in placed.items() if one != id_}
            case (id_, count):
                placed = {**placed, id_: count}
            case str():
                fleet = {id_: one for id_, one in fleet.items() if id_ != step}
            case _:
                now += step
        assert kept.find(fleet, placed, now=now) == OpenNodes().find(fleet, placed, now=now)
