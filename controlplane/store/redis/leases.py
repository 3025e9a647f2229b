"""How long leases are in Redis: longer than promised, so that keeping somebody costs few writes."""

from controlplane.core.big_dict import BigDict
from controlplane.core.model import Assignment
from controlplane.store.view import Key

LIVE_LEASE_S = 3600.0
"""Who is in a call has a lease this long in Redis: it is their node's reports that keep and end it, and those are
heard by one replica and written only when they change something. So long may a deployment be without any replica."""

SPARE_S = 30.0
"""The lease of somebody who is expected is written this much longer, so that joining again within that time needs no
write."""


def stored_lease(assignment: Assignment, now: float) -> float:
    """Return the seconds from now that the lease gets in Redis."""
    left = assignment.expires_at - now
    if assignment.live:
        return max(left, LIVE_LEASE_S)
    return left + min(SPARE_S, max(0.0, left) / 2)


def ms(seconds: float) -> int:
    """Return whole milliseconds."""
    return round(seconds * 1000)


class Leases:
    """What is known of the leases in Redis."""

    def __init__(self) -> None:
        self._ends: BigDict[Key, float] = BigDict()
        """By the clock of this process."""

    def note(self, key: Key, ends_at: float) -> None:
        """Note until when somebody's lease lasts."""
        self._ends[key] = ends_at

    def forget(self, key: Key) -> None:
        """Forget somebody who is gone."""
        self._ends.pop(key, None)

    def is_short(self, key: Key, assignment: Assignment, now: float) -> bool:
        """Return whether the lease has to be pushed."""
        wanted = now + LIVE_LEASE_S / 2 if assignment.live else 0.0
        return self._ends.get(key, 0.0) < max(assignment.expires_at, wanted)

    def is_long(self, key: Key, assignment: Assignment, now: float) -> bool:
        """Return whether the lease lasts longer than it should: somebody is not in the call any more."""
        return self._ends.get(key, 0.0) > now + stored_lease(assignment, now) + 1.0
