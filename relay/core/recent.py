"""The smallest of the last samples: what a path's round trip is without the queues that some samples met."""

from collections import deque


class RecentMinimum:
    """Keeps the last `count` samples, none older than `max_age_s` seconds."""

    def __init__(self, count: int, max_age_s: float) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=count)
        self._max_age_s = max_age_s

    def add(self, value: float, now: float) -> None:
        """Note a sample."""
        self._samples.append((now, value))

    def value(self, now: float) -> float | None:
        """Return the smallest, or None when nothing was heard lately."""
        while self._samples and now - self._samples[0][0] > self._max_age_s:
            self._samples.popleft()
        return min((value for _, value in self._samples), default=None)
