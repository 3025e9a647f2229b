"""One clock for leases: Redis'. This translates between it and the clock of this process."""

from collections import deque
from collections.abc import Callable

SAMPLES = 64
"""Of so many answers, the one that took least time is believed: half of that is all it can be wrong by."""


class RedisClock:
    """Seconds of this process, milliseconds of Redis."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._offset = 0.0

    def note(self, redis_ms: float, *, asked_at: float, answered_at: float) -> None:
        """Take in an answer's time. A local clock that was set shows within SAMPLES answers."""
        middle = (asked_at + answered_at) / 2
        self._samples.append((abs(answered_at - asked_at), redis_ms / 1000 - middle))
        self._offset = min(self._samples)[1]

    def forget(self) -> None:
        """Begin anew, with another server."""
        self._samples.clear()

    def to_local(self, redis_ms: float) -> float:
        """Return a time of Redis in seconds of this process."""
        return redis_ms / 1000 - self._offset

    def redis_ms(self) -> int:
        """Return what time it is for Redis."""
        return self.to_redis_ms(self.now())

    def to_redis_ms(self, local: float) -> int:
        """Return a time of this process in milliseconds of Redis."""
        return round((local + self._offset) * 1000)
