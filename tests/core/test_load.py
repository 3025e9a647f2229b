"""How full a node is, and what that costs."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.load import corrected_load, is_ramping, load_ms, reported_load
from tests.core.build import node


@given(st.floats(0, 2), st.integers(0, 500), st.integers(1, 400))
def test_a_node_is_as_full_as_it_says_and_never_emptier_than_its_people_make_it(
    load: float, participants: int, capacity: int
) -> None:
    found = reported_load(load, participants, capacity)
    assert found >= load
    assert found >= participants / capacity
    assert found in (load, participants / capacity)


def test_a_node_without_places_is_full_and_a_wrong_figure_makes_none_emptier_than_empty() -> None:
    assert reported_load(0.0, 0, 0) == reported_load(0.0, 0, -5) == 1.0
    assert reported_load(-3.0, 0, 100) == 0.0
    assert reported_load(math.inf, 0, 100) == math.inf


@given(st.floats(0, 1.5), st.integers(1, 400), st.integers(0, 400), st.integers(0, 400))
def test_own_placements_count_as_people_until_a_report_shows_them(
    load: float, capacity: int, placed: int, more: int
) -> None:
    one = node("n", "eu-paris", load=load, capacity=capacity)
    assert corrected_load(one, 0) == one.load
    assert corrected_load(one, placed) <= corrected_load(one, placed + more)
    empty = node("n", "eu-paris", capacity=capacity)
    assert math.isclose(corrected_load(empty, placed), placed / capacity)


def test_a_node_that_lost_its_places_with_people_on_their_way_is_full() -> None:
    assert corrected_load(node("n", "eu-paris", capacity=0), 3) >= 1


@given(st.integers(0, 1000), st.integers(0, 100), st.integers(1, 1000))
def test_once_a_node_ramps_more_on_their_way_do_not_end_it(
    placed: int, more: int, capacity: int
) -> None:
    one = node("n", "eu-paris", capacity=capacity)
    assert not is_ramping(one, 0)
    assert is_ramping(one, placed + more) >= is_ramping(one, placed)


def test_the_cost_of_load_grows_strictly_and_little_while_there_is_room() -> None:
    costs = [load_ms(load / 100) for load in range(121)]
    assert costs[0] == 0
    assert all(less < more for less, more in pairwise(costs))
    # A millisecond or two for an emptier node; tens before a full one is chosen over the next region.
    assert costs[50] < 3
    assert costs[100] > 15
