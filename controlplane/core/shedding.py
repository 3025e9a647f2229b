"""What to refuse when there is more to do than time, so that the rest is answered in time.

Two things are watched. How late the event loop is, while this process keeps its core busy: then everything is late, and
a growing share is refused, the dearest first. And how many wait for a place: whoever would wait too long is told so at
once, because an answer after the caller has given up is work for nobody.
"""

from dataclasses import dataclass
from enum import Enum

PLACES = 512
"""Requests in work at a time: 8,000 a second that wait 25 ms for Redis need 200."""

MAX_WAITING = 1024
"""Requests that may wait before one that comes; a second of joins on a slow day."""

DEADLINE_S = 1.0
"""In which every join is answered, by a place or by a refusal."""

BUSY = 0.8
"""Share of a core from which this process counts as the cause of its own lag. Below, the machine is, and to refuse
would not make it faster."""


class Cost(Enum):
    """What a request costs, as the lag in seconds from which some are refused, and from which all are."""

    READ = (0.050, 0.150)
    """Looking, probe plans, decisions: not needed for a call to begin."""
    JOIN = (0.100, 0.300)
    """A place for somebody new."""
    REPEAT = (0.200, 0.600)
    """The same answer again, and leaving: cheap, and what keeps running calls together."""

    def __init__(self, some_s: float, all_s: float) -> None:
        self.some_s = some_s
        self.all_s = all_s


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much this process has to do."""

    lag_s: float = 0.0
    """How late the event loop is, smoothed."""
    cpu: float = 0.0
    """Share of a core that the process uses, smoothed."""


IDLE = Pressure()


def shed_share(pressure: Pressure, cost: Cost) -> float:
    """Return the share of requests of this cost to refuse, 0 to 1; it grows with the lag, so that load settles."""
    if pressure.cpu < BUSY:
        return 0.0
    return min(1.0, max(0.0, (pressure.lag_s - cost.some_s) / (cost.all_s - cost.some_s)))


def why_not_wait(waiting: int, served_per_s: float) -> str | None:
    """Return why another request must not wait for a place behind `waiting` others, or None.

    `served_per_s` is 0 while it is unknown.
    """
    if waiting >= MAX_WAITING:
        return f"{waiting} requests wait already"
    if served_per_s > 0 and (waiting + 1) / served_per_s > DEADLINE_S:
        return f"{waiting} requests wait, and {served_per_s:.0f} a second are served"
    return None
