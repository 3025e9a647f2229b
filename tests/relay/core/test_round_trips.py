"""Round trips to one client, by answers to what was asked."""

import pytest

from relay.core.round_trips import ASK_INTERVAL_S, FORGET_S, MAX_ROUND_TRIP_S, SAMPLES, RoundTrips


def test_nothing_is_known_before_the_first_answer_and_long_after_the_last() -> None:
    trips = RoundTrips()
    assert trips.due(0.0)
    assert trips.value(0.0) is None
    trips.asked(b"a", 0.0)
    assert not trips.due(ASK_INTERVAL_S - 0.01)
    assert trips.due(ASK_INTERVAL_S)
    assert trips.answered(b"a", 0.25)
    assert trips.value(0.25) == 0.25
    assert trips.value(0.26 + FORGET_S) is None


def test_one_answer_counts_once_and_one_to_nothing_never() -> None:
    trips = RoundTrips()
    trips.asked(b"a", 0.0)
    assert not trips.answered(b"b", 0.001)
    assert trips.answered(b"a", 0.1)
    assert not trips.answered(b"a", 0.2)
    assert trips.value(0.2) == 0.1


def test_the_least_of_the_last_counts_and_a_longer_route_shows_soon() -> None:
    trips = RoundTrips()
    for number, rtt in enumerate([0.05, 0.02, 0.4] + [0.09] * SAMPLES):
        at = number * ASK_INTERVAL_S
        trips.asked(bytes([number]), at)
        assert trips.answered(bytes([number]), at + rtt)
        if number == 2:
            assert trips.value(at + rtt) == pytest.approx(0.02)
    last = (2 + SAMPLES) * ASK_INTERVAL_S
    assert trips.value(last + 1) == pytest.approx(0.09)


def test_a_slow_answer_counts_although_newer_requests_are_out() -> None:
    trips = RoundTrips()
    for number in range(3):
        trips.asked(bytes([number]), number * ASK_INTERVAL_S)
    assert trips.answered(b"\0", 5.0)
    assert trips.value(5.0) == 5.0


def test_requests_without_answers_do_not_pile_up() -> None:
    trips = RoundTrips()
    for number in range(1000):
        trips.asked(number.to_bytes(2, "big"), number * ASK_INTERVAL_S)
    assert len(trips._asked) <= MAX_ROUND_TRIP_S / ASK_INTERVAL_S + 1
