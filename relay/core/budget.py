"""Token buckets: bound how often something is done for somebody else's asking."""

from relay.core.addresses import IpAddress, network_of

MAX_NETWORKS = 16_384
"""Buckets kept, about 3 MB. Who forges more source addresses than that gets around a limit; what bounds the harm then
is that no answer is larger than its request."""


class TokenBucket:
    """Lets `rate` events a second pass on average and `burst` at once; starts full."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Return whether one more event passes at `now` (seconds of one monotonic clock)."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class AddressBudget:
    """A token bucket for each IPv4 address and each /64 of IPv6; the ports of an address share one.

    Keeps `most` buckets and forgets the one that was asked longest ago.
    """

    def __init__(self, rate: float, burst: int, most: int = MAX_NETWORKS) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._buckets: dict[bytes, TokenBucket] = {}
        """In the order of their last use."""

    def __len__(self) -> int:
        """Return how many buckets are kept."""
        return len(self._buckets)

    def take(self, address: IpAddress | None, now: float) -> bool:
        """Return whether one more event for `address` passes at `now`; all that are unknown share one bucket."""
        key = b"" if address is None else network_of(address)
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, self._burst)
        self._buckets[key] = bucket
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)
