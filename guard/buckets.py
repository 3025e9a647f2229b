"""Token buckets: how often something may happen on average, and how much of it at once."""

from collections.abc import Hashable
from math import inf
from typing import Generic, TypeVar

from guard.addresses import IpAddress, network_of

MAX_NETWORKS = 16_384
"""Buckets of addresses kept, about 3 MB. Who forges more source addresses than that gets around a limit; what bounds
the harm then is that no answer is larger than its request."""

_K = TypeVar("_K", bound=Hashable)


class TokenBucket:
    """Lets `rate` events a second pass on average and `burst` at once; starts full.

    `now` is in seconds of any one clock; when it goes back, nothing is gained.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = inf  # nothing is gained before the first event

    def is_empty(self, now: float) -> bool:
        """Return whether there is no token at `now`."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens < 1

    def passes(self, now: float) -> bool:
        """Take a token at `now`; return False if there is none."""
        if self.is_empty(now):
            return False
        self._tokens -= 1
        return True

    def take(self, now: float) -> float:
        """Take a token at `now` and return 0, or return in how many seconds there will be one."""
        return 0.0 if self.passes(now) else (1 - self._tokens) / self._rate


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

    def of(self, key: _K) -> TokenBucket:
        """Return this key's bucket, a full one if it is not kept."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst)
            if len(self._buckets) >= self._most:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket
        return bucket


class AddressBuckets(Buckets[bytes]):
    """A bucket for each IPv4 address and each /64 of IPv6; the ports of an address share one."""

    def __init__(self, rate: float, burst: float, most: int = MAX_NETWORKS) -> None:
        super().__init__(rate, burst, most)

    def of_address(self, address: IpAddress | None) -> TokenBucket:
        """Return the bucket of an address; all that are unknown share one."""
        return self.of(network_of(address))

    def passes(self, address: IpAddress | None, now: float) -> bool:
        """Return whether one more event for `address` passes at `now`."""
        return self.of_address(address).passes(now)
