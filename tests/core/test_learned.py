import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.learned import (
    FORGET_S,
    REGIONS_EACH,
    VOTES,
    VOTES_LAST_S,
    LearnedRtts,
    network_of,
)
from controlplane.core.model import RegionId, RttEstimate, RttSource

NOW = 1_790_000_000.0
FRA, VIR = RegionId("eu-frankfurt"), RegionId("us-virginia")
NET = "203.0.113.0/24"


def table(*rtts: float, now: float = NOW) -> LearnedRtts:
    """A table that sessions "0", "1", … taught these round trips to FRA."""
    learned = LearnedRtts()
    for index, rtt in enumerate(rtts):
        learned.note(NET, FRA, rtt, session=str(index), now=now)
    return learned


def fra(learned: LearnedRtts, now: float = NOW) -> RttEstimate:
    return learned.look(NET, now=now)[FRA]


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("203.0.113.0", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:7:8::1", "2001:db8:7::/48"),
        ("2001:DB8:7:ffff::1", "2001:db8:7::/48"),
        ("1:0:2::1", "1:0:2::/48"),
        ("1::1", "1::/48"),
        ("10.1.2.3", "10.1.2.0/24"),
        ("127.0.0.1", "127.0.0.0/24"),
        ("::1", "::/48"),
        (None, ""),
        ("", ""),
        ("nonsense", ""),
        ("203.0.113.7/24", ""),
        ("fe80::1%eth0", ""),
        ("203.0.113.256", ""),
        ("8" * 100_000, ""),
    ],
)
def test_the_network_of_an_address(address: str | None, network: str) -> None:
    assert network_of(address) == network


@given(st.lists(st.ip_addresses(), min_size=1, max_size=20))
def test_every_network_is_remembered_by_itself(addresses: list[object]) -> None:
    networks = sorted({network_of(str(one)) for one in addresses})
    learned = LearnedRtts()
    for index, network in enumerate(networks):
        learned.note(network, FRA, float(index), session="s", now=NOW)
    assert len(learned) == len(networks)
    found = [learned.look(network, now=NOW)[FRA].rtt_ms for network in networks]
    assert found == list(map(float, range(len(networks))))


@pytest.mark.parametrize(
    "network",
    ["", "x", "203.0.113.7", "203.0.113.0/25", "300.0.1.0/24", "1.2.0/24", "1.2.3.4.0/24", "-1.2.3.0/24",
     "::/47", "1:2:3:4::/48", "1::2::/48", "g::/48", "12345::/48", "\x00.0/24"],
)  # fmt: skip
def test_what_is_no_network_teaches_nothing(network: str) -> None:
    learned = LearnedRtts()
    learned.note(network, FRA, 20.0, session="s", now=NOW)
    assert len(learned) == 0
    assert learned.look(network, now=NOW) == {}


# --- votes ----------------------------------------------------------------------------------------


def test_one_session_is_believed_with_the_spread_of_one() -> None:
    found = fra(table(20.0))
    assert found.rtt_ms == 20.0
    assert found.source is RttSource.LEARNED
    assert found.age_s == 0
    assert found.spread_ms > fra(table(20.0, 20.0)).spread_ms > fra(table(*[20.0] * 5)).spread_ms


def test_a_session_that_is_measured_again_has_still_one_vote() -> None:
    learned = table(20.0, 21.0, 22.0)
    for second in range(1000):
        learned.note(NET, FRA, 900.0, session="liar", now=NOW + second)
    assert 20.0 <= fra(learned).rtt_ms <= 22.0
    assert fra(learned).spread_ms < 12


@pytest.mark.parametrize("odd", [0.0, 5000.0])
def test_of_two_the_older_stands_until_a_third_decides(odd: float) -> None:
    learned = table(20.0, odd)
    assert fra(learned).rtt_ms == 20.0
    assert fra(learned).spread_ms > fra(table(20.0, 20.0)).spread_ms
    learned.note(NET, FRA, 21.0, session="third", now=NOW)
    assert 20.0 <= fra(learned).rtt_ms <= 21.0


@given(
    st.lists(st.floats(0, 10_000), min_size=2, max_size=VOTES - 1),
    st.floats(0, 10_000),
    st.integers(1, 30),
)
def test_no_single_session_takes_the_figure_past_the_others(
    honest: list[float], lie: float, times: int
) -> None:
    learned = table(*honest)
    for second in range(times):
        learned.note(NET, FRA, lie, session="liar", now=NOW + second)
    assert min(honest) - 0.2 <= fra(learned).rtt_ms <= max(honest) + 0.2


def test_the_order_of_three_sessions_does_not_matter() -> None:
    assert {fra(table(*order)).rtt_ms for order in permutations((20.0, 25.0, 400.0))} == {25.0}


def test_sessions_that_disagree_leave_a_wide_spread() -> None:
    assert fra(table(20.0, 60.0, 100.0, 140.0)).spread_ms > 40 > fra(table(80, 80, 80)).spread_ms


def test_a_route_that_changed_is_followed_once_most_sessions_say_so() -> None:
    learned = table(20.0, 20.0, 20.0, 20.0, 20.0)
    seen = []
    for index in range(VOTES):
        learned.note(NET, FRA, 60.0, session=f"new-{index}", now=NOW + index)
        seen.append(fra(learned).rtt_ms)
    assert seen == [20.0, 20.0, 60.0, 60.0, 60.0]


def test_after_a_silence_what_was_before_counts_as_one() -> None:
    later = NOW + VOTES_LAST_S + 60
    learned = table(20.0, 20.0, 20.0, 20.0, 20.0)
    learned.note(NET, FRA, 60.0, session="a", now=later)
    assert fra(learned, later).rtt_ms == 20.0
    assert fra(learned, later).spread_ms > 15
    learned.note(NET, FRA, 61.0, session="b", now=later)
    assert fra(learned, later).rtt_ms == 60.0


# --- age ------------------------------------------------------------------------------------------


def test_the_spread_grows_with_age_until_nothing_is_said() -> None:
    learned = table(20.0, 20.0, 20.0)
    hours = [fra(learned, NOW + 3600 * hour).spread_ms for hour in (0, 1, 24, 168)]
    assert hours == sorted(set(hours))
    assert hours[0] < 8
    assert 10 < hours[2] < 16
    assert fra(learned, NOW + FORGET_S - 60).spread_ms == pytest.approx(46, abs=1.5)
    assert learned.look(NET, now=NOW + FORGET_S + 60) == {}


def test_a_confirmation_makes_it_young_again() -> None:
    learned = table(20.0, 20.0)
    learned.note(NET, FRA, 20.0, session="0", now=NOW + 3000)
    assert fra(learned, NOW + 3010).age_s == 10


def test_a_clock_that_goes_back_makes_no_negative_age() -> None:
    assert fra(table(20.0), NOW - 500).age_s == 0
    assert fra(table(20.0, now=-5.0), 0.0).age_s == 0


# --- bounds ---------------------------------------------------------------------------------------


def test_the_least_recently_confirmed_networks_make_room() -> None:
    learned = LearnedRtts(max_prefixes=3)
    for index in (1, 2, 3):
        learned.note(f"10.0.{index}.0/24", FRA, 20.0, session="s", now=NOW + index)
    learned.note("10.0.1.0/24", VIR, 90.0, session="s", now=NOW + 4)
    learned.note("10.0.4.0/24", FRA, 20.0, session="s", now=NOW + 5)
    known = [index for index in range(1, 5) if learned.look(f"10.0.{index}.0/24", now=NOW)]
    assert known == [1, 3, 4]
    assert len(learned) == 3


def test_a_large_table_stays_within_its_bound_and_keeps_the_newest() -> None:
    learned = LearnedRtts(max_prefixes=5000)
    for index in range(12_000):
        learned.note(f"10.{index >> 8}.{index & 255}.0/24", FRA, 20.0, session="s", now=NOW + index)
        assert len(learned) <= 5000
    assert len(learned) > 4500
    newest = range(12_000 - 4000, 12_000)
    assert all(learned.look(f"10.{i >> 8}.{i & 255}.0/24", now=NOW + 12_000) for i in newest)


def test_the_least_recently_confirmed_regions_of_a_network_make_room() -> None:
    learned = LearnedRtts()
    regions = [RegionId(f"r{index}") for index in range(REGIONS_EACH + 1)]
    for region in (*regions[:-1], regions[0], regions[-1]):
        learned.note(NET, region, 20.0, session="s", now=NOW)
    assert set(learned.look(NET, now=NOW)) == set(regions) - {regions[1]}
    assert len(learned) == 1


# --- never nonsense -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.1, 10_001.0])
def test_what_is_no_round_trip_changes_nothing(bad: float) -> None:
    learned = table(20.0)
    learned.note(NET, FRA, bad, session="0", now=NOW)
    assert fra(learned).rtt_ms == 20.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([FRA, VIR]),
            st.floats(allow_nan=True, allow_infinity=True),
            st.text(max_size=3),
            st.floats(-1e9, 5e9),
        ),
        max_size=30,
    ),
    st.floats(-1e9, 5e9),
)
def test_estimates_are_never_negative_and_never_nan(
    notes: list[tuple[RegionId, float, str, float]], now: float
) -> None:
    learned = LearnedRtts(max_prefixes=2)
    for region, rtt, session, at in notes:
        learned.note(NET, region, rtt, session=session, now=at)
    for found in learned.look(NET, now=now).values():
        assert 0 <= found.rtt_ms <= 10_000
        assert 0 < found.spread_ms < math.inf
        assert found.age_s >= 0
