"""The best places for all people of a room at once, when every round trip is known.

The cost is that of placement: mean over pairs of one-way delay + `weight` x mean access round trip of the two. It is
found by local search from several starts (everybody in one region, each region once; everybody in their nearest; the
hints): moves of one client's people, of two clients' at once, and of everybody in a region. Rooms of few people
have been compared with exhaustive search: it missed the optimum in one of 2,400, by 4 %.
"""

import itertools
from collections.abc import Sequence

PAIRS_UP_TO = 24
"""Clients up to which two are moved at once; beyond it the descent alone has plenty of ways."""

REGIONS_FOR_PAIRS = 6
"""Regions that a client is tried in when two move at once: its cheapest."""

BEST_STARTS = 3
"""Ends of the descent from which two clients at once are tried."""

_FAR = 1e9
"""Milliseconds to a region of which nothing is known: never chosen."""


def optimum(
    access: Sequence[Sequence[float | None]],
    links: Sequence[Sequence[float]],
    weight: float,
    hints: Sequence[Sequence[int]] = (),
) -> list[int]:
    """Return the region (by index) of each person.

    `access` are round trips in milliseconds by person and region. `links` is what lies between the nodes of two people
    one way, SFUs included; its diagonal is that of people on the same node.
    """
    search = _Search(access, links, weight)
    ends = sorted(search.descend(start) for start in search.starts(hints))
    best = min(
        (search.pairwise(seats) for _, seats in _distinct(ends)[:BEST_STARTS]),
        default=ends[0],
    )
    return search.people_of(best[1])


Found = tuple[float, list[int]]
"""Cost and region of each client."""


def _distinct(ends: Sequence[Found]) -> list[Found]:
    kept: list[Found] = []
    for one in ends:
        if all(one[1] != other[1] for other in kept):
            kept.append(one)
    return kept


class _Search:
    """People with the same round trips are one client and move together: apart they would only be farther apart."""

    def __init__(
        self,
        access: Sequence[Sequence[float | None]],
        links: Sequence[Sequence[float]],
        weight: float,
    ) -> None:
        rows = [tuple(_FAR if rtt is None else rtt for rtt in row) for row in access]
        self._clients = sorted(set(rows))
        number = {row: index for index, row in enumerate(self._clients)}
        self._client_of = [number[row] for row in rows]
        self._people = [self._client_of.count(index) for index in range(len(self._clients))]
        share = (len(rows) - 1) * (1 + weight) / 2
        self._own = [
            [share * rtt * people for rtt in row]
            for row, people in zip(self._clients, self._people, strict=True)
        ]
        self._links = links
        self._regions = range(len(links))

    def people_of(self, seats: Sequence[int]) -> list[int]:
        """Return the region of each person, from those of clients."""
        return [seats[client] for client in self._client_of]

    def starts(self, hints: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return where to begin: all in one region, each in the nearest, and what the hints say of people."""
        clients = range(len(self._clients))
        starts = [[region] * len(self._clients) for region in self._regions]
        starts.append([min(self._regions, key=self._own[client].__getitem__) for client in clients])
        starts += [[hint[self._client_of.index(client)] for client in clients] for hint in hints]
        return starts

    def descend(self, start: Sequence[int]) -> Found:
        """Return where moves of one client, or of everybody in a region, lead to."""
        seats = list(start)
        while self._single_moves(seats) or self._merge(seats):
            pass
        return self.cost(seats), seats

    def pairwise(self, start: Sequence[int]) -> Found:
        """Return where moves of two clients at once lead to, each followed by a descent."""
        best = self.descend(start)
        if len(self._clients) > PAIRS_UP_TO:
            return best
        while (better := self._pair_move(best)) is not None:
            best = better
        return best

    def cost(self, seats: Sequence[int]) -> float:
        """Return the sum over all pairs of people."""
        total, counts = 0.0, dict.fromkeys(seats, 0)
        for own, people, region in zip(self._own, self._people, seats, strict=True):
            total += own[region]
            counts[region] += people
        for region, count in counts.items():
            row = self._links[region]
            total += count * (count - 1) / 2 * row[region]
            total += sum(count * counts[other] * row[other] for other in counts if other < region)
        return total

    def _single_moves(self, seats: list[int]) -> bool:
        moved = False
        pull = self._pull(seats)
        for client, here in enumerate(seats):
            own, people = self._own[client], self._people[client]
            to_own = [people * row[here] for row in self._links]
            costs = [
                own[region] + people * (pull[region] - to_own[region]) for region in self._regions
            ]
            best = min(self._regions, key=costs.__getitem__)
            if costs[best] < costs[here] - 1e-9:
                seats[client] = best
                pull = [
                    old + people * (row[best] - row[here])
                    for old, row in zip(pull, self._links, strict=True)
                ]
                moved = True
        return moved

    def _pull(self, seats: Sequence[int]) -> list[float]:
        """Return what it costs one person more to be in a region, by links to everybody."""
        return [
            sum(people * row[region] for people, region in zip(self._people, seats, strict=True))
            for row in self._links
        ]

    def _merge(self, seats: list[int]) -> bool:
        """Move everybody of one region to another one, if that is better."""
        before = self.cost(seats)
        used = sorted(set(seats))
        for here in used:
            for there in self._regions:
                moved = [there if region == here else region for region in seats]
                if self.cost(moved) < before - 1e-9:
                    seats[:] = moved
                    return True
        return False

    def _pair_move(self, found: Found) -> Found | None:
        """Return where the first move of two clients that is better leads to; None when there is none."""
        _, seats = found
        pull = self._pull(seats)
        used = set(seats)
        choices = [
            sorted({*sorted(self._regions, key=own.__getitem__)[:REGIONS_FOR_PAIRS], *used})
            for own in self._own
        ]
        for one, other in itertools.combinations(range(len(seats)), 2):
            moved = self._best_pair(seats, pull, choices, one, other)
            if moved is not None:
                return self.descend(moved)
        return None

    def _best_pair(
        self,
        seats: Sequence[int],
        pull: Sequence[float],
        choices: Sequence[Sequence[int]],
        one: int,
        other: int,
    ) -> list[int] | None:
        """Return the seats with the two moved to where they are best together; None when that is where they are."""
        m, n = self._people[one], self._people[other]
        # What everybody else costs each of the two in a region.
        rest = [
            all_ - m * row[seats[one]] - n * row[seats[other]]
            for all_, row in zip(pull, self._links, strict=True)
        ]
        first = [own + m * link for own, link in zip(self._own[one], rest, strict=True)]
        second = [own + n * link for own, link in zip(self._own[other], rest, strict=True)]

        def cost(pair: tuple[int, int]) -> float:
            a, b = pair
            return first[a] + second[b] + m * n * self._links[a][b]

        best = min(itertools.product(choices[one], choices[other]), key=cost)
        if cost(best) >= cost((seats[one], seats[other])) - 1e-9:
            return None
        moved = list(seats)
        moved[one], moved[other] = best
        return moved
