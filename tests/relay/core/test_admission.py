"""The node's own word on who may begin a session."""

import pytest

from relay.core import admission
from relay.core.admission import Admission

ANA, BOB = ("r", "ana"), ("r", "bob")


def why_not(
    rules: Admission,
    key: tuple[str, str] = ANA,
    epoch: int = 1,
    *,
    present: frozenset[tuple[str, str]] = frozenset(),
    capacity: int = 1,
    draining: bool = False,
) -> str | None:
    refusal = rules.refusal(key, epoch, present=present, capacity=capacity, draining=draining)
    return None if refusal is None else refusal.code


def test_an_epoch_may_begin_again_and_grow_but_not_shrink() -> None:
    rules = Admission()
    rules.admitted(ANA, 5)
    assert [why_not(rules, epoch=epoch) for epoch in (4, 5, 6)] == ["stale_epoch", None, None]
    rules.admitted(ANA, 4)
    assert why_not(rules, epoch=4) == "stale_epoch"
    assert why_not(rules, BOB, 1) is None
    assert why_not(rules, ("other", "ana"), 1) is None


def test_a_refused_attempt_leaves_no_mark() -> None:
    rules = Admission()
    assert why_not(rules, epoch=9, draining=True) == "node_draining"
    assert why_not(rules, epoch=1) is None


def test_a_full_or_draining_node_keeps_those_who_are_here() -> None:
    rules, present = Admission(), frozenset({BOB})
    assert why_not(rules, ANA, present=present) == "node_full"
    assert why_not(rules, ANA, present=present, capacity=2) is None
    assert why_not(rules, ANA, present=present, capacity=2, draining=True) == "node_draining"
    assert why_not(rules, BOB, present=present, draining=True) is None


def test_a_stale_epoch_is_refused_even_to_those_who_are_here() -> None:
    rules = Admission()
    rules.admitted(ANA, 3)
    assert why_not(rules, ANA, 2, present=frozenset({ANA})) == "stale_epoch"


def test_those_who_were_here_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "REMEMBERED", 3)
    rules = Admission()
    for name in ("a", "b", "c", "a", "d"):
        rules.admitted(("r", name), 2)
    assert why_not(rules, ("r", "b"), 1) is None  # the oldest, forgotten
    assert [why_not(rules, ("r", name), 1) for name in "acd"] == ["stale_epoch"] * 3
