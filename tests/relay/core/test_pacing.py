"""Back-off and the least of the last samples."""

from relay.core.backoff import FIRST_S, LONGEST_S, backoff_s
from relay.core.recent import RecentMinimum


def test_back_off_doubles_up_to_a_bound_and_half_of_it_is_drawn() -> None:
    assert backoff_s(0, 0.0) == FIRST_S / 2
    assert backoff_s(1, 1.0) == 2 * FIRST_S
    assert backoff_s(1_000_000, 1.0) == LONGEST_S
    assert backoff_s(1_000_000, 0.0) == LONGEST_S / 2


def test_the_least_of_the_last_samples_counts_while_it_is_young() -> None:
    recent = RecentMinimum(count=3, max_age_s=10.0)
    assert recent.value(0.0) is None
    for at, value in enumerate((5.0, 1.0, 7.0, 6.0, 8.0)):
        recent.add(value, float(at))
    assert recent.value(4.0) == 6.0
    assert recent.value(13.5) == 8.0
    assert recent.value(14.5) is None
