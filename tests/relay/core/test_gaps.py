"""Which packets are asked for, when, and how often; in virtual time."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.gaps import (
    ASKED_AT_ONCE,
    MAX_GAP,
    MAX_TRIES,
    MIN_RETRY_S,
    REORDER_GUARD_S,
    Gaps,
)
from relay.core.rtcp import nack

RTT_S = 0.05


def take(gaps: Gaps, *sequences: int, now: float = 0.0) -> list[bool]:
    return [gaps.received(sequence, now) for sequence in sequences]


def test_reordering_within_the_guard_asks_for_nothing() -> None:
    gaps = Gaps()
    take(gaps, 1, 3)
    assert gaps.due(REORDER_GUARD_S - 0.001, RTT_S) == []
    assert take(gaps, 2, now=REORDER_GUARD_S - 0.001) == [True]
    assert gaps.due(1.0, RTT_S) == []
    assert not gaps


def test_a_loss_is_asked_for_after_the_guard_and_again_after_a_round_trip() -> None:
    gaps = Gaps()
    take(gaps, 1, 4)
    assert gaps.due(REORDER_GUARD_S, RTT_S) == [2, 3]
    assert gaps.due(REORDER_GUARD_S + RTT_S - 0.001, RTT_S) == []
    assert gaps.due(REORDER_GUARD_S + RTT_S, RTT_S) == [2, 3]
    assert gaps.asked(2)
    assert take(gaps, 2, now=0.1) == [True]
    assert gaps.due(1.0, RTT_S) == [3]


def test_a_round_trip_of_nothing_does_not_make_a_flood() -> None:
    gaps = Gaps()
    take(gaps, 1, 3)
    times = [ms / 1000 for ms in range(101) if gaps.due(ms / 1000, 0.0)]
    assert len(times) == 1 + int((0.1 - REORDER_GUARD_S) / MIN_RETRY_S)


def test_it_gives_up_after_the_last_try() -> None:
    gaps = Gaps()
    take(gaps, 1, 3)
    asked = sum(bool(gaps.due(float(second), RTT_S)) for second in range(1, 100))
    assert asked == MAX_TRIES
    assert gaps.given_up == 1
    assert not gaps
    assert take(gaps, 2, now=100.0) == [False]


def test_duplicates_are_told() -> None:
    gaps = Gaps()
    assert take(gaps, 1, 2, 2, 1, 4, 3, 3) == [True, True, False, False, True, True, False]


def test_the_circle_of_sequence_numbers_is_followed() -> None:
    gaps = Gaps()
    take(gaps, 65_533, 1)
    assert gaps.due(1.0, RTT_S) == [65_534, 65_535, 0]
    assert take(gaps, 65_535, 0, 65_534, 2) == [True] * 4
    assert not gaps


def test_a_jump_is_a_new_beginning_and_not_loss() -> None:
    for jump in (MAX_GAP + 1, 20_000):
        gaps = Gaps()
        take(gaps, 30_000, 30_002)
        assert take(gaps, 30_002 + jump, 30_003 + jump) == [True, True]
        assert not gaps
        assert gaps.given_up == 1


def test_a_very_late_repair_does_not_throw_the_stream_back() -> None:
    gaps = Gaps()
    take(gaps, 0, *range(2, MAX_GAP + 3))  # 1 is missing, and now too far behind
    assert not gaps
    assert gaps.given_up == 1
    assert take(gaps, 1, MAX_GAP + 3) == [False, True]
    assert not gaps


def test_what_is_forgotten_is_not_asked_for() -> None:
    gaps = Gaps()
    take(gaps, 1, 3)
    gaps.forget()
    assert gaps.due(1.0, RTT_S) == []


@given(st.lists(st.integers(0, 0xFFFF), max_size=300))
def test_memory_is_bounded_whatever_comes(sequences: list[int]) -> None:
    gaps = Gaps()
    take(gaps, *sequences)
    assert len(gaps.due(1.0, RTT_S)) <= MAX_GAP


def test_memory_is_bounded_when_nearly_everything_is_lost() -> None:
    gaps = Gaps()
    take(gaps, *range(0, 60_000, 900))
    asked = [gaps.due(1.0, RTT_S) for _ in range(5)]
    assert [len(numbers) for numbers in asked[:3]] == [ASKED_AT_ONCE] * 3
    assert len(nack(1, 2, asked[0])) < 1200
    assert MAX_GAP - 2 <= sum(map(len, asked)) <= MAX_GAP


# --- a virtual network ---------------------------------------------------------------------------


@dataclass
class Path:
    """A path that loses and reorders, both ways, with a round trip of RTT_S."""

    dice: Random
    loss: float
    jitter_s: float

    def arrives(self, sent_at: float) -> float | None:
        if self.dice.random() < self.loss:
            return None
        return sent_at + RTT_S / 2 + self.dice.random() * self.jitter_s


def call(path: Path, count: int) -> tuple[set[int], set[int], int]:
    """Send `count` packets, one a millisecond, answer NACKs; return what was lost at first, and for good, and NACKs."""
    gaps, asked = Gaps(), 0
    events: list[tuple[float, int]] = []
    lost_first: set[int] = set()
    for sequence in range(count):
        arrival = path.arrives(sequence / 1000)
        if arrival is None:
            lost_first.add(sequence)
        else:
            heapq.heappush(events, (arrival, sequence))
    got: set[int] = set()
    for now in _ticks(events, gaps):
        while events and events[0][0] <= now:
            at, sequence = heapq.heappop(events)
            if gaps.received(sequence & 0xFFFF, at):
                assert sequence not in got
                got.add(sequence)
        for missing in gaps.due(now, RTT_S + path.jitter_s):
            asked += 1
            request = path.arrives(now)
            answer = None if request is None else path.arrives(request)
            if answer is not None:
                heapq.heappush(events, (answer, missing))
    heard = range(min(got), max(got) + 1)  # what lies outside nobody can know to be missing
    return lost_first & set(heard), set(heard) - got, asked


def _ticks(events: list[tuple[float, int]], gaps: Gaps) -> Iterator[float]:
    tick = 0
    while events or gaps:
        yield tick / 100
        tick += 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.1), st.sampled_from([0.0, 0.004, 0.02]))
def test_all_that_can_be_repaired_is_repaired(seed: int, loss: float, jitter_s: float) -> None:
    """A round fails with f = 1-(1-p)²; ten rounds leave p·f^10, which is nothing up to 10 % of loss."""
    lost_first, lost, asked = call(Path(Random(seed), loss, jitter_s), 1500)  # noqa: S311
    assert lost == set()
    round_fails = 1 - (1 - loss) ** 2
    rounds = asked / max(1, len(lost_first))
    if jitter_s < REORDER_GUARD_S and len(lost_first) > 50:
        assert rounds < 1.5 / (1 - round_fails)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_a_path_that_loses_half_leaves_what_the_formula_says(seed: int) -> None:
    """With p = q = 0.5 a round fails with f = 0.75: p·f^10 = 2.8 % stay lost."""
    _, lost, _ = call(Path(Random(seed), 0.5, 0.0), 4000)  # noqa: S311
    assert 0.015 < len(lost) / 4000 < 0.045
