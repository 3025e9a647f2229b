"""The round trip to one client, by requests that only the client can answer.

RTCP shows a sender its round trip (RFC 3550, section 6.4.1) and a receiver none, and it takes the client's word for how
long the report was held. The answer to a request whose transaction id is random can come late but never early: a client
can make itself look further away, not nearer.
"""

from relay.core.recent import RecentMinimum

ASK_INTERVAL_S = 2.0
"""Between two requests to a client: 50 bytes a second each way, and five samples in ten seconds."""

SAMPLES = 5
"""The least of five is free of the queues that some met, and follows a new route within ten seconds."""

FORGET_S = 15.0
"""A client that did not answer for so long has no round trip."""

MAX_ROUND_TRIP_S = 10.0
"""What takes longer is no round trip that a call could be held with."""


class RoundTrips:
    """Requests that wait for an answer, and what the answers showed. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._samples = RecentMinimum(SAMPLES, FORGET_S)
        self._asked: dict[bytes, float] = {}
        self._ask_at = float("-inf")

    def due(self, now: float) -> bool:
        """Return whether it is time for a request."""
        return now >= self._ask_at

    def asked(self, transaction: bytes, now: float) -> None:
        """Note a request, and forget those that got no answer in time."""
        self._ask_at = now + ASK_INTERVAL_S
        self._asked[transaction] = now
        for old, asked_at in list(self._asked.items()):
            if now - asked_at > MAX_ROUND_TRIP_S:
                del self._asked[old]

    def answered(self, transaction: bytes, now: float) -> bool:
        """Note an answer; return False for one to no request, or to one that is answered already."""
        asked_at = self._asked.pop(transaction, None)
        if asked_at is None:
            return False
        self._samples.add(now - asked_at, now)
        return True

    def value(self, now: float) -> float | None:
        """Return the smallest of the last round trips in seconds, or None when there was none lately."""
        return self._samples.value(now)
