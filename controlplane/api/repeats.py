"""Answers of the last seconds, for callers who ask the very same again: a retry gets the same bytes.

Retries come in storms, when a server was slow or a line was down, and are worth nothing but an answer. So they cost a
look-up: nothing is estimated, decided or signed anew. Only while nobody came with the token: it can be used once.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from controlplane.core.model import Assignment

REPEAT_S = 3.0
"""Callers give up and try again within two seconds; the token has 57 of its 60 seconds left."""

MAX_ANSWERS = 10_000
"""Three seconds of 3,000 joins, 25 MB."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, and the seat that it is about."""

    seat: Assignment
    text: str
    at: float


class Repeats:
    """A bounded memory of answers; of too many, the oldest goes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()

    def keep(self, asked: Hashable, seat: Assignment, text: str, *, now: float) -> None:
        """Remember what was answered to a request; `asked` is all of it that an answer depends on."""
        self._kept[asked] = Kept(seat, text, now)
        self._kept.move_to_end(asked)
        if len(self._kept) > MAX_ANSWERS:
            self._kept.popitem(last=False)

    def find(self, asked: Hashable, *, now: float) -> Kept | None:
        """Return what was answered to the same request within REPEAT_S. Whether it is still true is the caller's."""
        kept = self._kept.get(asked)
        if kept is None or not 0 <= now - kept.at <= REPEAT_S:
            return None
        return kept
