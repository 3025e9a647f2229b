"""Back-off, budgets and the least of the last samples."""

import ipaddress

from relay.core.backoff import FIRST_S, LONGEST_S, backoff_s
from relay.core.budget import AddressBudget, TokenBucket
from relay.core.recent import RecentMinimum


def test_back_off_doubles_up_to_a_bound_and_half_of_it_is_drawn() -> None:
    assert backoff_s(0, 0.0) == FIRST_S / 2
    assert backoff_s(1, 1.0) == 2 * FIRST_S
    assert backoff_s(1_000_000, 1.0) == LONGEST_S
    assert backoff_s(1_000_000, 0.0) == LONGEST_S / 2


def test_a_bucket_lets_a_burst_pass_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10.0, burst=5)
    assert [bucket.take(1.0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(1.05)
    assert bucket.take(1.11)
    assert sum(bucket.take(1000.0) for _ in range(20)) == 5


def test_each_address_has_a_budget_of_its_own_and_a_64_of_ipv6_has_one() -> None:
    budget = AddressBudget(rate=1.0, burst=3)
    one, other = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("192.0.2.2")
    assert [budget.take(one, 0.0) for _ in range(4)] == [True] * 3 + [False]
    assert budget.take(other, 0.0)
    assert budget.take(one, 1.0)
    house = [ipaddress.ip_address(f"2001:db8::{host:x}") for host in range(1, 5)]
    assert [budget.take(address, 0.0) for address in house] == [True] * 3 + [False]
    assert [budget.take(None, 0.0) for _ in range(4)] == [True] * 3 + [False]


def test_budgets_are_bounded_and_the_one_unused_longest_is_forgotten() -> None:
    budget = AddressBudget(rate=0.001, burst=1, most=100)
    often = ipaddress.ip_address("198.51.100.1")
    assert budget.take(often, 0.0)
    for number in range(1000):
        assert budget.take(ipaddress.IPv4Address(0x0A000000 + number), 0.0)
        assert not budget.take(often, 0.0)
    assert len(budget) == 100


def test_the_least_of_the_last_samples_counts_while_it_is_young() -> None:
    recent = RecentMinimum(count=3, max_age_s=10.0)
    assert recent.value(0.0) is None
    for at, value in enumerate((5.0, 1.0, 7.0, 6.0, 8.0)):
        recent.add(value, float(at))
    assert recent.value(4.0) == 6.0
    assert recent.value(13.5) == 8.0
    assert recent.value(14.5) is None
