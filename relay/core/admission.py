"""Who may begin a session on this node: the node itself is the authority, whatever anybody else remembers.

A token proves that the control plane chose this node; the epoch proves that it has not chosen another one
since. The highest epoch of each participant is kept for as long as memory allows. And a token begins one session at
each door: who overhears it later has nothing.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass

REMEMBERED = 100_000
"""Participants whose highest epoch is kept, the latest ones: hundreds of times a node's capacity, 20 MB."""

MAX_USED = 100_000
"""Tokens that were used and have not ended yet: 1,500 sessions that begin every second, for a minute; 27 MB."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not."""

    code: str
    """"stale_epoch", "node_draining" or "node_full"."""
    detail: str


class Admission:
    """Remembers epochs and applies the rules."""

    def __init__(self) -> None:
        self._epochs: OrderedDict[tuple[str, str], int] = OrderedDict()

    def refusal(
        self,
        key: tuple[str, str],
        epoch: int,
        *,
        present: frozenset[tuple[str, str]],
        capacity: int,
        draining: bool,
    ) -> Refusal | None:
        """Return why the participant `key` (room, participant) with this epoch may not begin a session, or None.

        `present` are the participants that are here; they stay welcome on a node that is full or draining.
        """
        known = self._epochs.get(key, 0)
        if epoch < known:
            return Refusal(
                "stale_epoch", f"the token has epoch {epoch}, this node has seen {known}"
            )
        if key in present:
            return None
        if draining:
            return Refusal("node_draining", "this node takes no new participants")
        if len(present) >= capacity:
            return Refusal("node_full", f"{capacity} participants are here, and that is the limit")
        return None

    def admitted(self, key: tuple[str, str], epoch: int) -> None:
        """Note that sessions with this epoch may be here: lower ones are refused from now on."""
        self._epochs[key] = max(epoch, self._epochs.pop(key, 0))
        if len(self._epochs) > REMEMBERED:
            self._epochs.popitem(last=False)


class UsedTokens:
    """Remembers which tokens began a session at which door, until they end by themselves.

    What a process before this one let in nobody remembers: so tokens from before `since` count as used. Whoever has one
    gets a fresh one from the signalling server, as after every restart of a node.

    Only what was genuine and admitted is remembered, so nobody without tokens can fill it. When it is full it refuses:
    a node that began 1,500 sessions a second for a minute is in trouble anyway, and forgetting would let a recorded
    token in, which is what the whole memory is for.
    """

    def __init__(self, since: float, *, most: int = MAX_USED) -> None:
        """Begin at `since`, in seconds since 1970."""
        self._since = int(since)  # tokens tell whole seconds
        self._most = most
        self._used: set[tuple[str, str]] = set()
        self._ends: list[tuple[float, str, str]] = []
        """A heap of (end in seconds since 1970, token's id, door)."""

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._used)

    def is_used(self, token: str, door: str, *, issued_at: float) -> bool:
        """Return whether the token with this id (`jti`) began a session at this door, or may have."""
        return issued_at < self._since or (token, door) in self._used

    def is_full(self, now: float) -> bool:
        """Return whether no more can be remembered at `now`; forgets those that have ended."""
        while self._ends and self._ends[0][0] < now:
            _, token, door = heapq.heappop(self._ends)
            self._used.discard((token, door))
        return len(self._used) >= self._most

    def use(self, token: str, door: str, *, until: float) -> None:
        """Remember a token until it has ended for everybody's clock, in seconds since 1970."""
        if (token, door) not in self._used:
            self._used.add((token, door))
            heapq.heappush(self._ends, (until, token, door))
