"""Budgets, waits and recent minima, in virtual time."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.backoff import FIRST_S, LONGEST_S, backoff_s
from relay.core.budget import TokenBucket
from relay.core.recent import RecentMinimum


@given(st.lists(st.floats(0, 0.5), max_size=200), st.floats(0.5, 100), st.integers(1, 50))
def test_a_budget_lets_pass_no_more_than_it_says(
    steps: list[float], rate: float, burst: int
) -> None:
    bucket, now, passed = TokenBucket(rate, burst), 0.0, 0
    for step in steps:
        now += step
        passed += bucket.take(now)
    assert passed <= burst + now * rate + 1e-6


def test_a_budget_refills() -> None:
    bucket = TokenBucket(10, 2)
    assert [bucket.take(t) for t in (0.0, 0.0, 0.0, 0.1, 0.1, 9.0, 9.0, 9.0)] == [
        True, True, False, True, False, True, True, False,
    ]  # fmt: skip


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_the_wait_grows_and_has_a_ceiling(failures: int, dice: float) -> None:
    wait = backoff_s(failures, dice)
    assert FIRST_S / 2 <= wait <= LONGEST_S
    assert backoff_s(failures + 1, dice) >= wait


def test_the_minimum_forgets_what_is_old_and_what_is_many_samples_ago() -> None:
    recent = RecentMinimum(3, 10.0)
    assert recent.value(0.0) is None
    for at, value in enumerate((5.0, 1.0, 7.0)):
        recent.add(value, float(at))
    assert recent.value(2.0) == 1.0
    recent.add(8.0, 3.0)
    recent.add(9.0, 4.0)
    assert recent.value(4.0) == 7.0
    assert recent.value(12.5) == 8.0
    assert recent.value(20.0) is None
