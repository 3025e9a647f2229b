"""Which packets of a stream are missing, and when to ask for each of them again.

One per received stream, on every hop: client to edge and edge to edge. The timers follow the measured loss
recovery of existing systems: libwebrtc asks at once and retries after one RTT, Janus waits 12 ms, mediasoup
looks every 40 ms. Ours waits a short reorder guard, then repeats after max(RTT, 20 ms).
"""

from relay.core.rtp import sequence_delta

REORDER_GUARD_S = 0.008
"""Wait before the first request. Packets that only overtook each other arrive within it; at 0 every reordering
costs a useless repeat, at 30 ms a frame is already late in a 60 ms jitter buffer."""

MIN_RETRY_S = 0.020
"""Least time between two requests for a packet, for paths with a round trip of almost nothing."""

MAX_TRIES = 10
"""As in JVB and mediasoup: at 10 % loss both ways, 0.19^10 of the packets would still be missing."""

MAX_GAP = 1000
"""A jump ahead of more is a new beginning of the stream, not loss (libwebrtc's packet limit); what is further behind
is given up. There is no jump back: SRTP takes one for a replay, so what seems to be one is a very late repair."""

ASKED_AT_ONCE = 250
"""Sequence numbers in one NACK: at most 1000 bytes, so that it fits a datagram of any path."""


class _Missing:
    __slots__ = ("ask_at", "tries")

    def __init__(self, ask_at: float) -> None:
        self.ask_at = ask_at
        self.tries = 0


class Gaps:
    """The missing packets of one stream.

    `received` and `due` take `now` in seconds of one monotonic clock.
    """

    def __init__(self, guard_s: float = REORDER_GUARD_S) -> None:
        self._guard_s = guard_s
        self._highest: int | None = None
        self._missing: dict[int, _Missing] = {}
        self.given_up = 0
        """Packets that never came."""

    def __bool__(self) -> bool:
        """Whether anything is missing."""
        return bool(self._missing)

    def received(self, sequence: int, now: float) -> bool:
        """Note a packet; return False for one that was here before (or is too old to tell)."""
        if self._highest is None:
            self._highest = sequence
            return True
        ahead = sequence_delta(sequence, self._highest)
        if ahead == 1:
            self._highest = sequence
            self._bound(sequence)
            return True
        if ahead <= 0:
            return self._missing.pop(sequence, None) is not None
        if ahead > MAX_GAP:
            self._restart(sequence)
            return True
        for step in range(1, ahead):
            self._missing[(self._highest + step) & 0xFFFF] = _Missing(now + self._guard_s)
        self._highest = sequence
        self._bound(sequence)
        return True

    def asked(self, sequence: int) -> bool:
        """Return whether this packet is missing and was asked for: if it comes now, it is a repair."""
        missing = self._missing.get(sequence)
        return missing is not None and missing.tries > 0

    def due(self, now: float, rtt_s: float) -> list[int]:
        """Return the sequence numbers to ask for now, in order of the stream; each call counts as a request.

        They fit one NACK; what is left is due in the next call.
        """
        wanted: list[int] = []
        for sequence, missing in list(self._missing.items()):
            if missing.ask_at > now:
                continue
            if len(wanted) == ASKED_AT_ONCE:
                break
            if missing.tries >= MAX_TRIES:
                del self._missing[sequence]
                self.given_up += 1
                continue
            missing.tries += 1
            missing.ask_at = now + max(rtt_s, MIN_RETRY_S)
            wanted.append(sequence)
        return wanted

    def forget(self) -> None:
        """Ask for nothing that is missing now: the stream pauses or a key frame made it useless."""
        self._missing.clear()

    def _restart(self, sequence: int) -> None:
        self.given_up += len(self._missing)
        self._missing.clear()
        self._highest = sequence

    def _bound(self, highest: int) -> None:
        while self._missing:
            oldest = next(iter(self._missing))
            if sequence_delta(highest, oldest) <= MAX_GAP:
                return
            del self._missing[oldest]
            self.given_up += 1
