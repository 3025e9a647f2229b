"""How busy the process is: the unit in which this engine is full.

A node takes so many participants at most, but what fills its one core is packets, and a speaker in a large room makes
many times those of a viewer in a small one. So the load that a node reports is the greater of both shares.
"""

from collections import deque

WINDOW_S = 10.0
"""Long enough that a key frame for everybody or a burst of handshakes is no load, short enough to tell before reports
of a crowd matter."""

MOST = 0.85
"""A core that is busy all the time is a reason to send people elsewhere, not to refuse them: who else would take them
may be busier. Refusing is the number of participants' matter, and those on their way count on top of this."""


class BusyShare:
    """The share of one core that this process used during the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def note(self, cpu_s: float, now: float) -> float:
        """Take in the CPU seconds used so far and return the share, 0 to MOST; 0 until a whole window has passed."""
        self._samples.append((now, cpu_s))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_S:
            self._samples.popleft()
        began, used = self._samples[0]
        if now - began < WINDOW_S:
            return 0.0
        return min(MOST, max(0.0, (cpu_s - used) / (now - began)))
