"""How many lines one cause may write."""

from guard.line_budget import MAX_EVENTS, LineBudget


def test_lines_of_one_event_are_bounded_and_counted() -> None:
    budget = LineBudget(rate=1.0, burst=3)
    assert [budget.take("a", 0.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert budget.take("b", 0.0) == 0
    assert budget.overdue(0.5) == {}
    assert budget.take("a", 1.5) == 2
    assert budget.take("a", 1.6) is None
    assert budget.overdue(9.0) == {"a": 1}
    assert budget.overdue(9.0) == {}


def test_the_number_of_events_is_bounded() -> None:
    budget = LineBudget(rate=1.0, burst=3)
    passed = sum(budget.take(f"event {n}", 0.0) is not None for n in range(10_000))
    assert passed == MAX_EVENTS + 3
    assert len(budget._buckets) == MAX_EVENTS + 1
