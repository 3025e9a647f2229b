"""A clock that a test turns by hand."""


class FakeClock:
    """Satisfies the Clock port."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Turn the clock and return the new time; a negative number is a clock that was set back."""
        self._now += seconds
        return self._now
