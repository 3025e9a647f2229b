"""A token bucket: bounds how often something is done for somebody else's asking."""


class TokenBucket:
    """Lets `rate` events a second pass on average and `burst` at once; starts full."""

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
