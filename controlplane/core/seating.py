"""Seats of a room as numbers, and what moving people costs: the arithmetic of core/rehome.py."""

from collections.abc import Sequence
from itertools import compress
from typing import Protocol

EPSILON = 1e-6
"""Milliseconds below which two costs are equal: what floating point leaves behind must not keep a loop going."""


class Table(Protocol):
    """A room: people by index, regions by index."""

    seats: list[int]
    """The region of each person now."""
    publishes: list[bool]
    access: list[list[float]]
    """By person and region: what the access round trip adds to the cost, over all pairs of the person."""
    between: list[list[float]]
    """By region and region: what lies between two people who sit there; symmetric, and equal on the diagonal."""
    allowed: list[list[int]]
    """The regions where each person may sit, the present one among them."""
    pairs: float
    """Pairs of people who exchange media."""


class Seating:
    """Seats, and the sums by which the change that a move makes is known without a loop over people.

    cost = sum over people of access x partners + sum over pairs that exchange media of `between`. With F[r] the sum
    of `between[r][…]` over everybody, and over publishers alone, moving one person from a to b changes the second
    part by F[b] - between[b][a] - (F[a] - between[a][a]).

    `_seen` is F as each person sees it: a viewer exchanges media with publishers only.
    """

    def __init__(self, table: Table, seats: Sequence[int]) -> None:
        self._table = table
        self.seats = list(seats)
        self._all = self._sums(self.seats)
        speaking = list(compress(self.seats, table.publishes))
        # One list where everybody publishes, as in most rooms.
        self._publishers = self._all if speaking == self.seats else self._sums(speaking)
        self._seen = [self._all if speaks else self._publishers for speaks in table.publishes]
        self.cost = 0.0
        for seat, seen, speaks, access in zip(
            self.seats, self._seen, table.publishes, table.access, strict=True
        ):
            own = table.between[seat][seat] if speaks else 0.0
            self.cost += access[seat] + (seen[seat] - own) / 2

    def _sums(self, seats: Sequence[int]) -> list[float]:
        """Return F over the people of these seats."""
        total = [0.0] * len(self._table.between)
        for seat in sorted(set(seats)):
            people = seats.count(seat)
            total = [
                ms + people * more
                for ms, more in zip(total, self._table.between[seat], strict=True)
            ]
        return total

    def _add(self, person: int, seat: int, sign: int) -> None:
        row = self._table.between[seat]
        changed = [self._all]
        if self._table.publishes[person] and self._publishers is not self._all:
            changed.append(self._publishers)
        for sums in changed:
            for region, ms in enumerate(row):
                sums[region] += sign * ms

    def change(self, person: int, to: int) -> float:
        """Return by how much the cost grows when one person moves."""
        table, seat = self._table, self.seats[person]
        if seat == to:
            return 0.0
        links, row = self._seen[person], table.access[person]
        own = table.publishes[person]  # viewers are not in the sums that they see
        there = links[to] - (table.between[to][seat] if own else 0.0)
        here = links[seat] - (table.between[seat][seat] if own else 0.0)
        return row[to] - row[seat] + there - here

    def move(self, person: int, to: int) -> None:
        """Move one person."""
        self.cost += self.change(person, to)
        self._add(person, self.seats[person], -1)
        self._add(person, to, 1)
        self.seats[person] = to

    def descend(self) -> None:
        """Move people one by one, then everybody of a region together, until nothing lowers the cost."""
        while self._sweep() or self._merge():
            pass

    def _sweep(self) -> bool:
        """Give each person in turn the best seat; return whether anybody moved."""
        moved = False
        table = self._table
        for person, allowed in enumerate(table.allowed):
            if len(allowed) < 2:
                continue
            seat, row, links = self.seats[person], table.access[person], self._seen[person]
            if table.publishes[person]:
                # Its own part of the sums; viewers are not in those that they see.
                own = table.between[seat]
                costs = [row[to] + links[to] - own[to] for to in allowed]
            else:
                costs = [row[to] + links[to] for to in allowed]
            least = min(costs)
            if least < costs[allowed.index(seat)] - EPSILON:
                self.move(person, allowed[costs.index(least)])
                moved = True
        return moved

    def _merge(self) -> bool:
        """Move everybody of some region elsewhere, if that lowers the cost; return whether it did."""
        for seat in sorted(set(self.seats)):
            group = [
                person
                for person, at in enumerate(self.seats)
                if at == seat and len(self._table.allowed[person]) > 1
            ]
            if len(group) < 2:
                continue
            shared = set(self._table.allowed[group[0]]).intersection(
                *(self._table.allowed[person] for person in group[1:])
            )
            options = [(self._change_all(group, seat, to), to) for to in shared if to != seat]
            change, to = min(options, default=(0.0, seat))
            if change < -EPSILON:
                for person in group:
                    self.move(person, to)
                return True
        return False

    def _change_all(self, group: Sequence[int], seat: int, to: int) -> float:
        """Return by how much the cost grows when a group moves from one region to another together."""
        table = self._table
        publishers = sum(table.publishes[person] for person in group)
        viewers = len(group) - publishers
        # Among themselves nothing changes: one SFU before, one SFU after.
        apart = table.between[to][seat] - table.between[seat][seat]
        links = publishers * (self._all[to] - self._all[seat] - len(group) * apart)
        links += viewers * (self._publishers[to] - self._publishers[seat] - publishers * apart)
        for person in group:
            row = table.access[person]
            links += row[to] - row[seat]
        return links

    def moves(self) -> int:
        """Return how many people sit elsewhere than now."""
        return sum(a != b for a, b in zip(self.seats, self._table.seats, strict=True))

    def prune(self, least: float, budget: int) -> None:
        """Take back moves that bring less than `least` of the room's mean each, and the smallest beyond the budget."""
        now = self._table.seats
        while True:
            moved = [person for person, seat in enumerate(self.seats) if seat != now[person]]
            if not moved:
                return
            loss, person = min((self.change(one, now[one]), one) for one in moved)
            if loss >= least * self._table.pairs and len(moved) <= budget:
                return
            self.move(person, now[person])
