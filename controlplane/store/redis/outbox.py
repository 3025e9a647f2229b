"""What this replica knows and Redis does not yet: what was decided alone, reports, repeated joins.

Only whose state is due is kept, not the changes themselves: many changes of one participant are one write, and what is
written is what is true when it is written. So it is bounded by the people whom this replica knows, and a spell without
Redis, however long, makes it no longer than that.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Flag, auto

import structlog

from controlplane.store.view import Key

MAX_DUE = 200_000
"""As many people as one replica should hold. Beyond, the longest due is given up; its node's next report renews it."""

log = structlog.get_logger(__name__)


class Part(Flag):
    """What of a record is due."""

    NONE = 0
    STATIC = auto()
    CLIENT = auto()
    NODE = auto()
    ALL = STATIC | CLIENT | NODE


@dataclass(frozen=True, slots=True)
class Due:
    """What Redis has to be told of one participant."""

    parts: Part = Part.NONE
    """None of them: only the lease."""
    shorter: bool = False
    """The lease may become shorter."""
    event: str = ""
    """Type of the admission's event, if it has not happened for the others yet."""
    at: float = 0.0
    from_node: str = ""
    ended: int = 0
    """The epoch up to which everything ended; then nothing else is due."""
    reason: str = ""


class Outbox:
    """Due changes in the order in which they became due first."""

    def __init__(self) -> None:
        self._due: OrderedDict[Key, Due] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def add(self, key: Key, due: Due) -> None:
        """Note that something is due, beside what is already."""
        before = self._due.get(key)
        self._due[key] = due if before is None else _both(before, due)
        if len(self._due) > MAX_DUE:
            (room, participant), _ = self._due.popitem(last=False)
            log.error("too much waits for redis", given_up=f"{room}/{participant}", most=MAX_DUE)

    def put_back(self, key: Key, due: Due) -> None:
        """Note again what could not be sent; what became due meanwhile comes on top."""
        after = self._due.get(key)
        self._due[key] = due if after is None else _both(due, after)

    def pop(self, key: Key) -> Due | None:
        """Remove and return what is due of somebody."""
        return self._due.pop(key, None)

    def drop(self, key: Key) -> None:
        """Forget what is due: somebody else knows better."""
        self._due.pop(key, None)

    def take(self, most: int) -> list[tuple[Key, Due]]:
        """Remove and return what is due longest."""
        return [self._due.popitem(last=False) for _ in range(min(most, len(self._due)))]


def _both(before: Due, after: Due) -> Due:
    """Return what is due when something was due already."""
    if after.ended or Part.STATIC in after.parts:
        # A whole new state; how it came to be for the others is told once.
        if after.event or after.ended:
            return after
        return replace(after, event=before.event, at=before.at, from_node=before.from_node)
    if before.ended:
        return before
    return replace(
        before, parts=before.parts | after.parts, shorter=before.shorter or after.shorter
    )
