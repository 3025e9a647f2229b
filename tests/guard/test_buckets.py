"""Token buckets: plain numbers in, plain numbers out."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.addresses import parse_address
from guard.buckets import AddressBuckets, Buckets, TokenBucket

NOW = 1_000_000.0


def test_a_bucket_lets_its_burst_pass_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=3)
    assert [bucket.take(0.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(0.0) == pytest.approx(0.1)
    assert bucket.take(0.1) == 0
    assert bucket.take(0.1) == pytest.approx(0.1)
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = TokenBucket(rate=10, burst=1)
    assert bucket.take(100.0) == 0
    assert bucket.take(50.0) > 0
    assert bucket.take(50.2) == 0


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=200))
def test_no_bucket_ever_gives_more_than_rate_and_burst(gaps: list[float]) -> None:
    bucket, now, passed = TokenBucket(rate=10, burst=5), 0.0, 0
    for gap in gaps:
        now += gap
        passed += bucket.take(now) == 0
    assert passed <= 5 + 10 * now + 1e-6


def test_buckets_are_apart_and_bounded() -> None:
    buckets: Buckets[str] = Buckets(rate=1, burst=1, most=3)
    assert buckets.of("a").take(0.0) == 0
    assert buckets.of("a").take(0.0) > 0
    assert buckets.of("b").take(0.0) == 0
    for number in range(100):
        buckets.of(f"tenant-{number}").take(0.0)
    assert len(buckets) == 3


def test_a_bucket_says_whether_it_lets_pass() -> None:
    bucket = TokenBucket(rate=10.0, burst=5)
    assert [bucket.passes(1.0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.passes(1.05)
    assert bucket.passes(1.11)
    assert sum(bucket.passes(1000.0) for _ in range(20)) == 5


def test_each_address_has_a_budget_of_its_own_and_a_64_of_ipv6_has_one() -> None:
    budget = AddressBuckets(rate=1.0, burst=3)
    one, other = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("192.0.2.2")
    assert [budget.passes(one, 0.0) for _ in range(4)] == [True] * 3 + [False]
    assert budget.passes(other, 0.0)
    assert budget.passes(one, 1.0)
    house = [ipaddress.ip_address(f"2001:db8::{host:x}") for host in range(1, 5)]
    assert [budget.passes(address, 0.0) for address in house] == [True] * 3 + [False]
    assert [budget.passes(None, 0.0) for _ in range(4)] == [True] * 3 + [False]


def test_budgets_are_bounded_and_the_one_unused_longest_is_forgotten() -> None:
    budget = AddressBuckets(rate=0.001, burst=1, most=100)
    often = ipaddress.ip_address("198.51.100.1")
    assert budget.passes(often, 0.0)
    for number in range(1000):
        assert budget.passes(ipaddress.IPv4Address(0x0A000000 + number), 0.0)
        assert not budget.passes(often, 0.0)
    assert len(budget) == 100


def test_a_mapped_address_is_its_ipv4_and_a_clock_that_goes_back_gives_nothing() -> None:
    budget = AddressBuckets(rate=0.1, burst=2, most=3)
    assert [budget.passes(parse_address("192.0.2.1"), NOW) for _ in range(3)] == [True, True, False]
    assert budget.passes(parse_address("::ffff:192.0.2.1"), NOW) is False
    assert budget.passes(parse_address("192.0.2.2"), NOW)
    assert budget.passes(parse_address("192.0.2.1"), NOW + 10)
    assert not budget.passes(parse_address("192.0.2.1"), NOW + 10)
    assert not budget.passes(parse_address("192.0.2.1"), NOW - 1000)


def test_another_64_has_another_budget_and_what_is_no_address_shares_one() -> None:
    budget = AddressBuckets(rate=0.1, burst=1, most=3)
    assert budget.passes(parse_address("2001:db8::1"), NOW)
    assert not budget.passes(parse_address("2001:db8::ffff"), NOW)
    assert budget.passes(parse_address("2001:db8:0:1::1"), NOW)
    assert budget.passes(None, NOW)
    assert not budget.passes(parse_address("junk"), NOW)
    assert budget.passes(parse_address("192.0.2.9"), NOW)
    assert len(budget) == 3
