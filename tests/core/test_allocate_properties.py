"""What has to hold of a placement in any world: hypothesis invents them."""

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.allocate import Refused, allocate
from controlplane.core.liveness import STALE_S
from controlplane.core.model import (
    Assignment,
    Decision,
    Join,
    Node,
    NodeId,
    NodeState,
    Role,
    RoomId,
)
from controlplane.core.rtt import Estimates
from controlplane.core.rules import Case, node_refusal, region_refusal
from controlplane.core.sums import sum_up
from controlplane.core.world import World
from tests.core.build import CITIES, NOW, join, node, rtts, seat, shuffled, topology, turned, world

REGIONS = sorted(CITIES)
NAMES = [f"n{i}" for i in range(8)]
round_trips = st.floats(0, 400)

nodes = st.builds(
    node,
    st.sampled_from(NAMES),
    st.sampled_from([*REGIONS, "mars"]),
    state=st.sampled_from(NodeState) | st.just(NodeState.SERVING),
    load=st.floats(0, 1.3),
    capacity=st.sampled_from([0, 1, 100]),
    heard_at=st.floats(NOW - 2 * STALE_S, NOW),
)
fleets = st.lists(nodes, max_size=8, unique_by=lambda one: one.id)
joins = st.builds(
    join,
    role=st.sampled_from(Role),
    residency=st.sets(st.sampled_from(["eu", "us", "gdpr"]), max_size=2),
    regions=st.sets(st.sampled_from(REGIONS), max_size=3),
    exclude=st.sets(st.sampled_from(NAMES), max_size=3),
)
estimates = st.dictionaries(st.sampled_from(REGIONS), round_trips).map(rtts)
Situation = tuple[Join, list[Assignment], World, Estimates]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    fleet = draw(fleets)
    gone = node("gone", "eu-paris")
    seats = draw(
        st.lists(
            st.tuples(st.sampled_from([*fleet, gone]), round_trips, st.sampled_from(Role)),
            max_size=10,
        )
    )
    people = [seat(f"p{i}", on, rtt, role=role) for i, (on, rtt, role) in enumerate(seats)]
    placed = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 120)))
    return draw(joins), people, world(fleet, topology(), placed=placed), draw(estimates)


def refusal(id_: NodeId, who: Join, view: World) -> str | None:
    """Why a node may not take the join, by the rules with their sentences."""
    one = view.nodes[id_]
    return region_refusal(who, one.region, view.topology.regions.get(one.region)) or node_refusal(
        Case(one, view.placed.get(id_, 0), who, NOW)
    )


@given(situations())
@settings(max_examples=300)
def test_a_refused_node_is_never_chosen_nor_a_fallback(situation: Situation) -> None:
    who, people, view, known = situation
    outcome = allocate(who, sum_up(people), view, known, now=NOW)
    able = {id_ for id_ in view.nodes if refusal(id_, who, view) is None}
    if isinstance(outcome, Refused):
        assert not able
        assert all(one.refusal and one.node is None for one in outcome.candidates)
        assert all(
            region_refusal(who, id_, view.topology.regions[id_]) is None
            for id_ in outcome.allowed_regions
        )
        return
    taken = [outcome.node, *outcome.fallbacks]
    assert able.issuperset(taken)
    assert len(set(taken)) == len(taken) == min(3, len(able))
    assert able.issuperset(one.node for one in outcome.candidates if one.node is not None)


@given(situations())
@settings(max_examples=200)
def test_every_refusal_among_the_candidates_is_what_the_rules_say(situation: Situation) -> None:
    who, people, view, known = situation
    for one in allocate(who, sum_up(people), view, known, now=NOW).candidates:
        here = [id_ for id_, each in view.nodes.items() if each.region == one.region]
        whole = region_refusal(who, one.region, view.topology.regions.get(one.region))
        if whole is not None:
            assert (one.refusal, one.node, one.refused) == (whole, None, {})
            continue
        said = {id_: refusal(id_, who, view) for id_ in here}
        assert one.refused == {id_: why for id_, why in said.items() if why is not None}
        assert (one.refusal is not None) == (len(one.refused) == len(here)) == (one.node is None)


@given(situations())
@settings(max_examples=200)
def test_scores_are_finite_sums_of_their_terms_in_ascending_order(situation: Situation) -> None:
    who, people, view, known = situation
    outcome = allocate(who, sum_up(people), view, known, now=NOW)
    assert {one.region for one in outcome.candidates} == {one.region for one in view.nodes.values()}
    assert len({one.region for one in outcome.candidates}) == len(outcome.candidates)
    assert outcome.because
    assert all(sentence.strip() for sentence in outcome.because)
    for one in outcome.candidates:
        assert (one.score is None) == (one.refusal is not None)
        if one.score is not None:
            assert math.isfinite(one.score)
            assert all(math.isfinite(value) and value >= 0 for value in one.terms.values())
            assert one.score == pytest.approx(math.fsum(one.terms.values()))
    scores = [one.score for one in outcome.candidates if one.score is not None]
    assert scores == sorted(scores)
    if isinstance(outcome, Decision):
        assert (outcome.node, outcome.region) == (
            outcome.candidates[0].node,
            outcome.candidates[0].region,
        )
        assert outcome.others == len(people)


@given(situations(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_neither_order_nor_repetition_changes_a_decision(
    situation: Situation, dice: Random
) -> None:
    who, people, view, known = situation
    first = allocate(who, sum_up(people), view, known, now=NOW)
    assert first == allocate(who, sum_up(people), view, known, now=NOW)
    dice.shuffle(people)
    others = turned(sum_up(people), dice)
    again = replace(known, rtts=turned(known.rtts, dice))
    assert first == allocate(who, others, shuffled(view, dice), again, now=NOW)


def names_of(count: int) -> list[str]:
    return [f"who-{i}" for i in range(count)]


@given(situations())
def test_the_names_of_people_do_not_matter(situation: Situation) -> None:
    who, people, view, known = situation
    renamed = [
        seat(name, node(one.node, one.region), one.rtts[one.region].rtt_ms, role=one.role)
        for name, one in zip(names_of(len(people)), reversed(people), strict=True)
    ]
    first = allocate(who, sum_up(people), view, known, now=NOW)
    second = allocate(join_as("zoe", who), sum_up(renamed), view, known, now=NOW)
    assert first == second


def join_as(name: str, who: Join) -> Join:
    return replace(who, participant=join(name).participant, session="another")


@given(situations(), st.sampled_from(NAMES))
@settings(max_examples=200)
def test_a_node_that_was_not_chosen_is_not_missed(situation: Situation, name: str) -> None:
    """Independence of irrelevant alternatives: taking away an empty loser changes no choice."""
    who, people, view, known = situation
    outcome = allocate(who, sum_up(people), view, known, now=NOW)
    if isinstance(outcome, Refused) or outcome.node == name:
        return
    if any(one.node == name for one in people):
        return
    fewer = replace(view, nodes={id_: one for id_, one in view.nodes.items() if id_ != name})
    without = allocate(who, sum_up(people), fewer, known, now=NOW)
    assert isinstance(without, Decision)
    assert without.node == outcome.node


@given(fleets, st.integers(0, 1000))
def test_the_only_choice_is_made_whatever_it_costs(fleet: list[Node], number: int) -> None:
    good = node("only", "ap-sydney", load=0.99)
    ill = [replace(one, state=NodeState.DRAINING) for one in fleet]
    who = replace(join(), room=RoomId(f"room-{number}"))
    outcome = allocate(who, {}, world([*ill, good]), rtts({"ap-sydney": 9999}), now=NOW)
    assert isinstance(outcome, Decision)
    assert (outcome.node, outcome.fallbacks) == ("only", ())
