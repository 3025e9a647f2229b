"""What has to hold of the improvement step in any room and any world: hypothesis invents them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core import rehome
from controlplane.core.model import Join, Role, Room
from controlplane.core.rehome import AGAIN_AFTER_S, Rehome, improve
from controlplane.core.rules import Case, node_refusal, region_refusal
from controlplane.core.seating import Seating
from controlplane.core.world import World
from tests.core.build import NOW, node, room, seat, shuffled, turned
from tests.core.rooms import NO_LIMITS, SETTLED, after, cost, exactly, put, rooms
from tests.core.truth import Internet, internet


def step(of: Room, view: World, budget: int = 1000) -> tuple[Rehome, ...]:
    return improve(of, view, now=NOW, budget=budget)


# --- limits and rules -----------------------------------------------------------------------------


@given(rooms(), st.integers(-1, 8))
@settings(max_examples=200)
def test_no_limit_is_ever_broken(situation: tuple[Room, World], budget: int) -> None:
    of, view = situation
    policy = view.topology.policy
    moves = step(of, view, budget)
    moved = [one for one in of.assignments.values() if (one.moved_at or 0) > NOW - AGAIN_AFTER_S]
    assert len(moves) <= max(0, budget)
    assert not moves or len(moves) + len(moved) <= policy.rehomes_per_room
    assert not {one.participant for one in moves} & {one.participant for one in moved}
    assert len({one.participant for one in moves}) == len(moves)
    for one in moves:
        assert one.gain_ms >= policy.rehome_gain_ms
        assert one.gain_ms == moves[0].gain_ms


@given(rooms())
@settings(max_examples=200)
def test_nobody_is_sent_where_a_rule_refuses_them(situation: tuple[Room, World]) -> None:
    of, view = situation
    for one in step(of, view):
        before = of.assignments[one.participant]
        to = view.nodes[one.to_node]
        who = Join(of.id, one.participant, before.session, require=before.require)
        assert (before.node, to.region) == (one.from_node, one.to_region)
        assert one.to_region != before.region
        assert region_refusal(who, to.region, view.topology.regions.get(to.region)) is None
        assert node_refusal(Case(to, view.placed.get(to.id, 0), who, NOW)) is None


@given(rooms(), st.integers(0, 8))
@settings(max_examples=200)
def test_the_gain_that_is_told_is_what_going_through_every_pair_gives(
    situation: tuple[Room, World], budget: int
) -> None:
    of, view = situation
    moves = step(of, view, budget)
    gain = cost(view, of) - cost(view, after(of, moves))
    assert gain == pytest.approx(moves[0].gain_ms if moves else 0.0, abs=1e-6)


@given(rooms(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_neither_order_nor_repetition_changes_a_step(
    situation: tuple[Room, World], dice: Random
) -> None:
    of, view = situation
    people = {who: replace(one, rtts=turned(one.rtts, dice)) for who, one in of.assignments.items()}
    again = Room(of.id, turned(people, dice))
    assert step(of, view) == step(of, view) == step(again, shuffled(view, dice))


@given(rooms(nodes=False))
@settings(max_examples=100)
def test_steps_come_to_an_end_and_each_makes_the_room_better(
    situation: tuple[Room, World],
) -> None:
    of, view = situation
    before = cost(view, of)
    for _ in range(20):
        moves = step(of, view)
        if not moves:
            return
        of = after(of, moves)
        assert cost(view, of) <= before
        before = cost(view, of)
    pytest.fail("the room never settles")


def test_nobody_is_moved_for_nothing_even_where_no_gain_is_asked_for() -> None:
    """Two regions that are the same to everybody."""
    net = internet(1, regions=2)
    a, b = sorted(net.world.topology.regions)
    view = replace(net.world, topology=replace(net.world.topology, policy=NO_LIMITS))
    for here in (a, b):
        people = [
            seat(who, view.nodes[node(f"{here}-1", here).id], known=exactly({a: 20.0, b: 20.0}))
            for who in ("ana", "bob", "cem")
        ]
        assert step(room(*people), view) == ()


# --- the optimum ----------------------------------------------------------------------------------


def crowd(net: Internet, dice: Random) -> Room:
    """The Internet's people in any of its regions."""
    ids = sorted(net.world.topology.regions)
    return room(
        *(
            replace(
                seat(
                    f"p{index}",
                    net.world.nodes[node(f"{here}-1", here).id],
                    role=dice.choice([Role.PUBLISHER, Role.PUBLISHER, Role.VIEWER]),
                    known=exactly(client.rtts),
                ),
                assigned_at=SETTLED,
            )
            for index, client in enumerate(net.clients)
            for here in [dice.choice(ids)]
        )
    )


def best(of: Room, view: World) -> float:
    """The smallest cost of all ways to seat everybody."""
    ids = sorted(view.topology.regions)
    return min(
        cost(view, put(of, dict(zip(of.assignments, regions, strict=True))))
        for regions in product(ids, repeat=len(of.assignments))
    )


def test_small_rooms_end_at_the_optimum_when_no_limits_are_set() -> None:
    over = []
    for seed in range(150):
        dice = Random(seed)  # noqa: S311 - the same rooms each time
        net = internet(seed, regions=dice.choice([2, 3, 4]), clients=dice.choice([2, 3, 4]))
        view = replace(net.world, topology=replace(net.world.topology, policy=NO_LIMITS))
        of = crowd(net, dice)
        for _ in range(10):
            of = after(of, step(of, view))
        over.append(cost(view, of) / (best(of, view) or 1.0) - 1 if cost(view, of) else 0.0)
    assert min(over) > -1e-9
    assert max(over) < 0.01


# --- the arithmetic of plans ----------------------------------------------------------------------


@dataclass
class Numbers:
    """A room as the plan reads it: people and regions by index."""

    regions: Sequence[int]
    seats: Sequence[int]
    publishes: Sequence[bool]
    partners: Sequence[int]
    pairs: float
    access: Sequence[Sequence[float]]
    between: Sequence[Sequence[float]]
    """The same from each region to itself: one SFU and no way."""
    allowed: Sequence[Sequence[int]]

    def cost(self, seats: Sequence[int]) -> float:
        """Everybody's access, and every pair in which somebody publishes, one by one."""
        links = (
            self.between[seats[one]][seats[other]]
            for one, other in combinations(range(len(seats)), 2)
            if self.publishes[one] or self.publishes[other]
        )
        return sum(links) + sum(row[seat] for row, seat in zip(self.access, seats, strict=True))

    def plan(self, seats: Sequence[int]) -> Seating:
        return Seating(cast(Any, self), seats)


@st.composite
def numbers(draw: st.DrawFn) -> Numbers:
    regions = range(draw(st.integers(1, 4)))
    people = range(draw(st.integers(2, 7)))
    rtts = st.floats(0, 200)
    one_sfu = draw(st.floats(0, 5))
    between = [[one_sfu] * len(regions) for _ in regions]
    for a in regions:
        for b in range(a):
            between[a][b] = between[b][a] = draw(rtts)
    seats = [draw(st.sampled_from(regions)) for _ in people]
    publishes = [draw(st.booleans()) for _ in people]
    partners = [len(people) - 1 if one else sum(publishes) for one in publishes]
    allowed = [sorted({seat, *draw(st.sets(st.sampled_from(regions)))}) for seat in seats]
    access = [[draw(rtts) * count for _ in regions] for count in partners]
    return Numbers(regions, seats, publishes, partners, sum(partners) / 2, access, between, allowed)


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-6)


@given(numbers(), st.data())
@settings(max_examples=200)
def test_what_a_move_changes_is_known_without_a_loop_over_pairs(
    of: Numbers, data: st.DataObject
) -> None:
    plan = of.plan(of.seats)
    assert plan.cost == close(of.cost(of.seats))
    for _ in range(4):
        person = data.draw(st.sampled_from(range(len(of.seats))))
        to = data.draw(st.sampled_from(of.regions))
        seats = list(plan.seats)
        expected = of.cost([*seats[:person], to, *seats[person + 1 :]])
        assert plan.cost + plan.change(person, to) == close(expected)
        plan.move(person, to)
        assert plan.cost == close(expected)
        assert of.cost(plan.seats) == close(expected)


@given(numbers(), st.data())
@settings(max_examples=200)
def test_what_moving_several_together_changes_is_known_too(
    of: Numbers, data: st.DataObject
) -> None:
    plan = of.plan(of.seats)
    seat_ = data.draw(st.sampled_from(of.seats))
    to = data.draw(st.sampled_from(of.regions))
    here = [person for person, at in enumerate(of.seats) if at == seat_]
    group = sorted(data.draw(st.sets(st.sampled_from(here), min_size=1)))
    seats = [to if person in group else at for person, at in enumerate(of.seats)]
    assert plan.cost + plan._change_all(group, seat_, to) == close(of.cost(seats))


@given(numbers(), st.data())
@settings(max_examples=200)
def test_a_descent_never_ends_higher_and_no_single_move_goes_lower_from_there(
    of: Numbers, data: st.DataObject
) -> None:
    begin = [data.draw(st.sampled_from(allowed)) for allowed in of.allowed]
    plan = of.plan(begin)
    plan.descend()
    assert plan.cost == close(of.cost(plan.seats))
    assert plan.cost <= of.cost(begin) + 1e-6
    for person, allowed in enumerate(of.allowed):
        assert plan.seats[person] in allowed
        assert all(plan.change(person, to) >= -1e-5 for to in allowed)


@given(numbers(), st.sampled_from([0.0, 1.0, 20.0]), st.integers(0, 7))
@settings(max_examples=200)
def test_pruning_leaves_moves_that_earn_their_price_and_as_many_as_may_be(
    of: Numbers, least: float, budget: int
) -> None:
    plan = of.plan(of.seats)
    plan.descend()
    wanted = list(plan.seats)
    plan.prune(least, budget)
    assert plan.cost == close(of.cost(plan.seats))
    assert plan.moves() == sum(a != b for a, b in zip(plan.seats, of.seats, strict=True)) <= budget
    for person, (at, was) in enumerate(zip(plan.seats, of.seats, strict=True)):
        assert at in (was, wanted[person])
        if at != was:
            assert plan.change(person, was) >= least * of.pairs - 1e-6


@given(rooms(nodes=False))
@settings(max_examples=200)
def test_rooms_that_are_not_planned_would_not_have_been_changed(
    situation: tuple[Room, World],
) -> None:
    of, view = situation
    first = next(iter(of.assignments.values()))
    together = put(of, dict.fromkeys(of.assignments, first.region))
    together = Room(
        of.id,
        {who: replace(one, node=first.node) for who, one in together.assignments.items()},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehome, "_is_well_together", lambda *_: False)
        planned = step(together, view)
    assert step(together, view) == planned
