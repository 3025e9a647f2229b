"""Shedding: plain numbers in, plain numbers out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.shedding import (
    BUSY,
    MAX_WAITING,
    Cost,
    Pressure,
    shed_share,
    why_not_wait,
)


def test_nothing_is_shed_in_time_or_when_others_use_the_core() -> None:
    for cost in Cost:
        assert shed_share(Pressure(0.0, 1.0), cost) == 0
        assert shed_share(Pressure(10.0, BUSY - 0.01), cost) == 0


def test_what_is_dear_goes_first_and_repeats_last() -> None:
    shares = {cost: shed_share(Pressure(0.2, 1.0), cost) for cost in Cost}
    assert shares == {Cost.READ: 1.0, Cost.JOIN: pytest.approx(0.5), Cost.REPEAT: 0.0}


@given(st.floats(0, 2), st.floats(0, 2))
def test_more_lag_never_sheds_less(one: float, other: float) -> None:
    less, more = sorted((one, other))
    for cost in Cost:
        share = shed_share(Pressure(less, 1.0), cost)
        assert 0 <= share <= shed_share(Pressure(more, 1.0), cost) <= 1


def test_who_would_wait_too_long_is_told_at_once() -> None:
    assert why_not_wait(99, 100.0) is None
    assert why_not_wait(100, 100.0) is not None
    assert why_not_wait(MAX_WAITING - 1, 0.0) is None
    assert why_not_wait(MAX_WAITING, 0.0) is not None
