"""What has to hold for any world: hypothesis invents them."""

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.allocate import Refused, allocate
from controlplane.core.model import Join, Node, NodeState, Role, Room, World
from controlplane.core.rtt import Estimates
from tests.core.build import CITIES, NOW, join, node, room, rtts, seat, topology, world

REGIONS = sorted(CITIES)
round_trips = st.floats(0, 400)

nodes = st.builds(
    node,
    st.sampled_from([f"n{i}" for i in range(8)]),
    st.sampled_from([*REGIONS, "mars"]),
    state=st.sampled_from(NodeState),
    load=st.floats(0, 1.3),
    placed=st.integers(0, 120),
    capacity=st.sampled_from([0, 1, 100]),
    heard_at=st.floats(NOW - 10, NOW),
)
fleets = st.lists(nodes, max_size=8, unique_by=lambda one: one.id)
joins = st.builds(
    join,
    role=st.sampled_from(Role),
    residency=st.sets(st.sampled_from(["eu", "us", "gdpr"]), max_size=2),
    regions=st.sets(st.sampled_from(REGIONS), max_size=3),
    exclude=st.sets(st.sampled_from([f"n{i}" for i in range(8)]), max_size=3),
)
estimates = st.dictionaries(st.sampled_from(REGIONS), round_trips).map(rtts)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Join, Room, World, Estimates]:
    fleet = draw(fleets)
    people = []
    if fleet:
        seats = draw(
            st.lists(
                st.tuples(
                    st.sampled_from(fleet),
                    round_trips,
                    st.sampled_from(Role),
                    st.sampled_from([NOW - 1, NOW + 60]),
                ),
                max_size=10,
            )
        )
        people = [
            seat(f"p{i}", on, rtt, role=role, expires_at=until)
            for i, (on, rtt, role, until) in enumerate(seats)
        ]
    return draw(joins), room(*people), world(fleet, topology()), draw(estimates)


@given(situations())
@settings(max_examples=300)
def test_a_decision_is_sane_and_never_breaks_a_hard_rule(
    situation: tuple[Join, Room, World, Estimates],
) -> None:
    who, others, view, estimates = situation
    outcome = allocate(who, others, view, estimates, now=NOW)
    assert len(outcome.candidates) == len(view.nodes)
    assert outcome.because
    assert all(sentence.strip() for sentence in outcome.because)
    for one in outcome.candidates:
        assert (one.score is None) == (one.refusal is not None)
        if one.score is not None:
            assert math.isfinite(one.score)
            assert one.score >= 0
            assert all(math.isfinite(value) and value >= 0 for value in one.terms.values())
            assert one.score == math.fsum(one.terms.values())
    if isinstance(outcome, Refused):
        assert all(one.refusal for one in outcome.candidates)
        return
    for id_ in (outcome.node, *outcome.fallbacks):
        _assert_allowed(view.nodes[id_], who, view)
    assert outcome.node not in outcome.fallbacks
    assert len(set(outcome.fallbacks)) == len(outcome.fallbacks) <= 2
    assert outcome.candidates[0].node == outcome.node
    scores = [one.score for one in outcome.candidates if one.score is not None]
    assert scores == sorted(scores)


def _assert_allowed(one: Node, who: Join, view: World) -> None:
    assert one.state is NodeState.SERVING
    assert one.id not in who.exclude_nodes
    assert who.require.residency <= view.topology.regions[one.region].residency
    assert not who.require.regions or one.region in who.require.regions


@given(situations(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_neither_order_nor_repetition_changes_a_decision(
    situation: tuple[Join, Room, World, Estimates], dice: Random
) -> None:
    who, others, view, estimates = situation
    shuffled_nodes = list(view.nodes.items())
    shuffled_people = list(others.assignments.items())
    dice.shuffle(shuffled_nodes)
    dice.shuffle(shuffled_people)
    shuffled = World(view.topology, dict(shuffled_nodes), view.region_rtt)
    first = allocate(who, others, view, estimates, now=NOW)
    second = allocate(who, Room(others.id, dict(shuffled_people)), shuffled, estimates, now=NOW)
    assert first == second
    assert first == allocate(who, others, view, estimates, now=NOW)
