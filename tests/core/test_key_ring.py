"""Signing keys are replaced without a token that some node refuses."""

import pytest

from controlplane.core.key_ring import PUBLISH_LEAD_S, RETIRE_S, KeyRing
from controlplane.core.tokens import CLOCK_SKEW_S, TOKEN_TTL_S

NOW = 1_000_000.0


def test_a_process_that_starts_signs_with_its_first_key_at_once() -> None:
    ring = KeyRing.of(["a", "b"])
    assert (ring.signing, set(ring.published_at)) == ("a", {"a", "b"})
    assert ring.turn(["a", "b"], NOW) == ring


def test_a_new_key_is_told_before_it_signs_and_the_old_one_after() -> None:
    ring = KeyRing.of(["a"]).turn(["b"], NOW)
    assert (ring.signing, set(ring.published_at)) == ("a", {"a", "b"})
    ring = ring.turn(["b"], NOW + PUBLISH_LEAD_S - 0.1)
    assert ring.signing == "a"
    switched = NOW + PUBLISH_LEAD_S
    ring = ring.turn(["b"], switched)
    assert (ring.signing, set(ring.published_at)) == ("b", {"a", "b"})
    last_token_ends = switched + TOKEN_TTL_S + CLOCK_SKEW_S
    ring = ring.turn(["b"], last_token_ends)
    assert set(ring.published_at) == {"a", "b"}
    ring = ring.turn(["b"], switched + RETIRE_S)
    assert (ring.signing, set(ring.published_at), dict(ring.leaving)) == ("b", {"b"}, {})


def test_a_key_that_was_told_long_ago_signs_at_once() -> None:
    ring = KeyRing.of(["a", "b"]).turn(["b", "a"], NOW)
    assert (ring.signing, set(ring.published_at)) == ("b", {"a", "b"})


def test_a_key_that_comes_back_is_not_on_its_way_out() -> None:
    ring = KeyRing.of(["a", "b"]).turn(["a"], NOW)
    assert set(ring.leaving) == {"b"}
    ring = ring.turn(["a", "b"], NOW + 1)
    assert (dict(ring.leaving), set(ring.published_at)) == ({}, {"a", "b"})


def test_two_replacements_in_a_row_wait_for_the_newest() -> None:
    ring = KeyRing.of(["a"]).turn(["b"], NOW).turn(["c"], NOW + 10)
    assert ring.signing == "a"
    ring = ring.turn(["c"], NOW + 10 + PUBLISH_LEAD_S)
    assert ring.signing == "c"
    ring = ring.turn(["c"], NOW + 500)
    assert set(ring.published_at) == {"c"}


@pytest.mark.parametrize("step_s", [0.5, 2.0, 7.0, 60.0, 1000.0])
def test_whatever_the_rhythm_no_token_is_signed_with_a_key_unknown_for_two_rhythms(
    step_s: float,
) -> None:
    wanted = [["a"], ["b"], ["b", "a"], ["c"], ["a"], ["c", "b"]]
    ring, now, told = KeyRing.of(["a"]), NOW, {"a": 0.0}
    for number in range(200):
        ring = ring.turn(wanted[number // 10 % len(wanted)], now)
        told = {kid: told.get(kid, now) for kid in ring.published_at}
        assert now - told[ring.signing] >= PUBLISH_LEAD_S
        now += step_s
