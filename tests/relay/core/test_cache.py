"""The packets that NACKs are answered from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.cache import PacketCache
from relay.core.rtp import sequence_of
from tests.relay.packets import packet


@given(st.integers(0, 0xFFFF), st.integers(1, 300))
def test_the_last_ones_are_kept_over_the_wrap(first: int, count: int) -> None:
    cache = PacketCache(64)
    numbers = [(first + n) & 0xFFFF for n in range(count)]
    for number in numbers:
        cache.put(packet(number))
    for number in numbers[-64:]:
        kept = cache.get(number)
        assert kept is not None
        assert sequence_of(kept) == number
    for number in numbers[:-64]:
        assert cache.get(number) is None
    assert cache.get((numbers[-1] + 1) & 0xFFFF) is None


def test_a_size_that_does_not_follow_the_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        PacketCache(100)
