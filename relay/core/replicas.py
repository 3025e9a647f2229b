"""Which replicas of the control plane a node talks to.

Each node has an order of its own of all replicas (rendezvous hashing: by the hash of node and address), so that the
nodes spread over the replicas by themselves, and over those that remain when one is gone.

The addresses that the last snapshot names count, since those replicas live. The configured ones count while there is
nothing better: before the first snapshot, and when none of the others can be reached.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from relay.core.backoff import backoff_s

MAX_LEARNED = 64
"""Addresses that are taken from a snapshot: more replicas than anybody runs."""


@dataclass(slots=True)
class _Rest:
    """A replica that could not be reached."""

    failures: int
    until: float


class Replicas:
    """The known replicas, each as host:port, and when which may be called again."""

    def __init__(self, node: str, configured: Iterable[str]) -> None:
        self._node = node
        self._configured = self._in_order(configured)
        self._learned: tuple[str, ...] = ()
        self._resting: dict[str, _Rest] = {}

    def learn(self, targets: Iterable[str]) -> None:
        """Take the replicas that live now; none says nothing."""
        found = self._in_order(targets)[:MAX_LEARNED]
        if found:
            self._learned = found
            known = {*found, *self._configured}
            self._resting = {at: rest for at, rest in self._resting.items() if at in known}

    def pick(self, taken: Collection[str], now: float) -> str | None:
        """Return whom to call: the first in order that is not taken and does not rest; None for nobody now."""
        for targets in self._tiers(now):
            for target in targets:
                if target not in taken and not self._rests(target, now):
                    return target
        return None

    def known(self) -> tuple[str, ...]:
        """Return every replica that is known, in this node's order."""
        return self._in_order({*self._learned, *self._configured})

    def is_better(self, target: str, other: str) -> bool:
        """Return whether a replica that lives comes before another one in this node's order."""
        if target not in self._learned:
            return False
        return other not in self._learned or self._learned.index(target) < self._learned.index(
            other
        )

    def worked(self, target: str) -> None:
        """Note that a session came about: a first failure after it means little."""
        self._resting.pop(target, None)

    def failed(self, target: str, dice: float, now: float) -> None:
        """Let a replica rest, longer with each failure in a row; `dice` is uniform in [0, 1)."""
        rest = self._resting.get(target)
        failures = rest.failures + 1 if rest else 0
        self._resting[target] = _Rest(failures, now + backoff_s(failures, dice))

    def avoid(self, target: str, seconds: float, now: float) -> None:
        """Leave a replica alone for a while."""
        self._resting[target] = _Rest(0, now + seconds)

    def _tiers(self, now: float) -> Iterable[tuple[str, ...]]:
        yield self._learned
        if all(self._rests(target, now) for target in self._learned):
            yield self._configured

    def _rests(self, target: str, now: float) -> bool:
        rest = self._resting.get(target)
        return rest is not None and now < rest.until

    def _in_order(self, targets: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(set(targets), key=lambda target: _weight(self._node, target)))


def _weight(node: str, target: str) -> bytes:
    return hashlib.blake2b(f"{node} {target}".encode(), digest_size=8).digest()
