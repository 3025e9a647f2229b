"""How many lines one cause may write to the log, and how many were left out."""

from guard.buckets import TokenBucket

MAX_EVENTS = 500
"""Kinds of lines that are told apart; the code has about a hundred."""


class LineBudget:
    """Lets `rate` lines a second pass on average and `burst` at once, of each event."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, TokenBucket] = {}
        self._left_out: dict[str, int] = {}

    def take(self, event: str, now: float) -> int | None:
        """Return how many lines like this were left out since the last one, or None to leave out this one too."""
        if event not in self._buckets and len(self._buckets) >= MAX_EVENTS:
            event = ""  # one bucket for whatever comes as the five hundred and first
        bucket = self._buckets.setdefault(event, TokenBucket(self._rate, self._burst))
        if not bucket.passes(now):
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return None
        return self._left_out.pop(event, 0)

    def overdue(self, now: float) -> dict[str, int]:
        """Return what was left out and can be told now that its cause has calmed down; told once."""
        told = {
            event: count
            for event, count in self._left_out.items()
            if self._buckets[event].passes(now)
        }
        for event in told:
            del self._left_out[event]
        return told
