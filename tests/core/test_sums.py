"""Rooms summed up by node: in any order, and so that a decision costs the same in a room of any size."""

import sys
from collections.abc import Callable
from functools import partial
from random import Random
from types import FrameType

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.allocate import allocate
from controlplane.core.model import Assignment, Decision, Role
from controlplane.core.rtt import Estimates
from controlplane.core.sums import NOBODY, access_us, adding, sum_up, without
from tests.core.build import CITIES, NOW, join, node, one_node_each, rtts, seat

VIEW = one_node_each()
NODES = [*VIEW.nodes.values(), node("eu-frankfurt-2", "eu-frankfurt")]


@st.composite
def crowds(draw: st.DrawFn) -> list[Assignment]:
    seats = draw(
        st.lists(
            st.tuples(st.sampled_from(NODES), st.floats(0, 10_000), st.sampled_from(Role)),
            max_size=12,
        )
    )
    return [seat(f"p{i}", on, rtt, role=role) for i, (on, rtt, role) in enumerate(seats)]


@given(crowds())
def test_sums_are_what_counting_gives(people: list[Assignment]) -> None:
    found = sum_up(people)
    assert found.keys() == {one.node for one in people}
    for id_, group in found.items():
        here = [one for one in people if one.node == id_]
        publishers = [one for one in here if one.role is Role.PUBLISHER]
        assert (group.node, group.region) == (id_, here[0].region)
        assert (group.count, group.publishers) == (len(here), len(publishers))
        assert group.publisher_us == sum(map(access_us, publishers))
        assert group.publisher_us + group.viewer_us == sum(map(access_us, here))


@given(crowds(), crowds(), st.randoms(use_true_random=False))
def test_coming_and_going_in_any_order_gives_the_sums_of_who_is_there(
    stay: list[Assignment], leave: list[Assignment], dice: Random
) -> None:
    steps = [(0, one) for one in stay] + [(1, one) for one in leave]
    dice.shuffle(steps)
    found = NOBODY
    for _, one in steps:
        found = adding(found, one)
    leaving = [one for goes, one in steps if goes]
    dice.shuffle(leaving)
    for one in leaving:
        found = without(found, one)
    assert found == sum_up(stay)


@given(crowds())
def test_sums_are_not_changed_in_place(people: list[Assignment]) -> None:
    before = sum_up(people)
    copy = dict(before)
    for one in people:
        adding(before, one)
        without(before, one)
    assert without(before, None) == before == copy


def crowd(size: int) -> list[Assignment]:
    """As many on each node, at the same distances, whatever the size."""
    nodes = list(VIEW.nodes.values())
    return [
        seat(
            f"p{i}", nodes[i % len(nodes)], 20.0, role=Role.VIEWER if i % 10 > 4 else Role.PUBLISHER
        )
        for i in range(size)
    ]


def test_five_thousand_people_sum_up_to_a_handful_of_groups() -> None:
    people = crowd(5000)
    found = sum_up(people)
    assert len(found) == len(CITIES)
    assert sum(group.count for group in found.values()) == 5000
    assert sum(group.publishers for group in found.values()) == 2500
    for one in people[10:]:
        found = without(found, one)
    assert found == sum_up(people[:10])


def calls_of(work: Callable[[], object]) -> int:
    """How many functions a piece of work calls, Python's and built-in ones."""
    count = 0

    def note(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_the_work_of_a_join_does_not_grow_with_the_room() -> None:
    estimates: Estimates = rtts({"eu-frankfurt": 5, "eu-paris": 15, "us-virginia": 92})
    counts = {}
    for size in (10, 50, 5000):
        others = sum_up(crowd(size))
        decision = allocate(join(), others, VIEW, estimates, now=NOW)
        assert isinstance(decision, Decision)
        assert decision.others == size
        counts[size] = calls_of(partial(allocate, join(), others, VIEW, estimates, now=NOW))
    assert counts[10] == counts[50] == counts[5000] > 0
