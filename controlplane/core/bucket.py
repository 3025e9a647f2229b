"""Token buckets: how often something may happen on average, and how much of it at once."""

from collections.abc import Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)


class TokenBucket:
    """Lets `rate` events a second pass on average and `burst` at once; starts full."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def take(self, now: float) -> float:
        """Take a token at `now` and return 0, or return in how many seconds there will be one."""
        if self._at is not None:
            gained = max(0.0, now - self._at) * self._rate
            self._tokens = min(self._burst, self._tokens + gained)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class Buckets(Generic[_K]):
    """A bucket for each key; keeps `most` and forgets the one that was asked longest ago."""

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._buckets: dict[_K, TokenBucket] = {}
        """In the order of their last use."""

    def __len__(self) -> int:
        """Return how many buckets are kept."""
        return len(self._buckets)

    def take(self, key: _K, now: float) -> float:
        """Take a token of this key's bucket, see TokenBucket.take."""
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, self._burst)
        self._buckets[key] = bucket
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)
