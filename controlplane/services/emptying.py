"""Empties nodes: lost ones at once, the others while their calls go on, at a pace.

Each move makes a new connection on another node. Where nothing is on fire, people go a few at a time, so that the nodes
that take them are never the ones in trouble.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.core.model import Assignment, Drain, Node, Region
from controlplane.errors import InvalidInputError
from controlplane.services.moving import Move, Mover

MOVES_PER_SWEEP = 200
"""People moved per node and sweep, 800 a second: a full node is empty within a second, and a sweep stays short."""

MOVES_AT_ONCE = 400
"""The same of all nodes together, so that a sweep stays short when a tenth of a large fleet fails."""

MOVE_RETRY_S = 5.0
"""Those whom nobody could take are tried again this often."""

REMOVAL_PACE = 20.0
"""People a second who leave a node whose region is no longer theirs: 400 in 20 s, a handshake on each of a few nodes
at a time."""

MAX_DRAIN_S = 86_400.0
"""A drain of more than a day is a node to be removed."""

MAX_PACE = 800.0
"""People a second: what a sweep would do without any pace."""


def drain_why(drain: Drain) -> str:
    """Return the node's `why` while it drains; its state says that it does."""
    return drain.reason or "an operator empties it"


@dataclass(slots=True)
class Leaving:
    """How far the emptying of one node has come."""

    passed_over: int = 0
    """People in this round whom nobody could take."""
    next_round_at: float = 0.0
    credit: float = 0.0
    """People who may be moved now, at a pace."""
    credited_at: float | None = None

    def allowance(self, pace: float | None, *, now: float) -> int:
        """Return how many people may be moved now; `pace` is in people a second, None for as many as a sweep can."""
        since = 0.0 if self.credited_at is None else max(0.0, now - self.credited_at)
        begins = self.credited_at is None
        self.credited_at = now
        if pace is None:
            return MOVES_PER_SWEEP
        # At most one second's worth is saved up, so a pause is not followed by a rush; the first one goes at once.
        self.credit = 1.0 if begins else min(self.credit + pace * since, max(1.0, pace))
        return min(int(self.credit), MOVES_PER_SWEEP)


@dataclass(frozen=True, slots=True)
class WayOut:
    """Who leaves a node, why, and how fast."""

    people: Sequence[Assignment]
    move: Move
    pace: float | None
    """People a second; None for as many as a sweep can."""


def way_out(
    node: Node, people: Sequence[Assignment], drain: Drain | None, region: Region | None, now: float
) -> WayOut | None:
    """Return what a drain or the topology wants of a node's people; None when all may stay.

    `region` is None when the topology does not declare the node's region any more.
    """
    if drain is not None and (now >= drain.deadline_at or drain.pace is not None):
        move = Move(f"node {node.id} drained: {drain_why(drain)}", frozenset({node.id}))
        return WayOut(people, move, None if now >= drain.deadline_at else drain.pace)
    misplaced = _misplaced(people, region)
    if not misplaced:
        return None
    why = (
        "was removed from the topology" if region is None else "no longer keeps the residency rule"
    )
    return WayOut(
        misplaced, Move(f"region {node.region} {why}", frozenset({node.id})), REMOVAL_PACE
    )


def _misplaced(people: Sequence[Assignment], region: Region | None) -> Sequence[Assignment]:
    """Return those who may not be in the region: nobody may be in one that is gone."""
    if region is None:
        return people
    return [one for one in people if not one.require.residency <= region.residency]


class Emptier:
    """Moves people off nodes, in rounds: those whom nobody could take wait until all others were tried."""

    def __init__(self, mover: Mover) -> None:
        self._mover = mover
        self._left = MOVES_AT_ONCE

    def begin(self) -> None:
        """Begin a sweep over all nodes."""
        self._left = MOVES_AT_ONCE

    async def empty(self, way: WayOut, leaving: Leaving, *, now: float) -> bool:
        """Move as many people as it is time for, and return whether it was time for any."""
        allowed = min(leaving.allowance(way.pace, now=now), self._left)
        if now < leaving.next_round_at or not allowed:
            return False
        batch = way.people[leaving.passed_over : leaving.passed_over + allowed]
        self._left -= len(batch)
        moved = await self._mover.move(batch, way.move)
        leaving.credit = max(0.0, leaving.credit - len(batch))
        leaving.passed_over += len(batch) - moved
        if leaving.passed_over and leaving.passed_over >= len(way.people) - moved:
            leaving.passed_over, leaving.next_round_at = 0, now + MOVE_RETRY_S
        return True


def check_drain(deadline_s: float, pace: float | None) -> None:
    """Raise InvalidInputError ("bad-deadline", "bad-pace") for a drain that makes no sense."""
    if not (math.isfinite(deadline_s) and 0 <= deadline_s <= MAX_DRAIN_S):
        raise InvalidInputError(
            "bad-deadline", f"A drain's deadline is 0 to {MAX_DRAIN_S:.0f} seconds from now."
        )
    if pace is not None and not (math.isfinite(pace) and 0 < pace <= MAX_PACE):
        raise InvalidInputError(
            "bad-pace",
            f"A drain's pace is above 0 and at most {MAX_PACE:.0f} people a second.",
            "Leave it out to move nobody before the deadline.",
        )
