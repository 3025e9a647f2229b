"""What a room was really like: the true delay of every pair and the true round trip of everybody to their edge.

    delay(i, j) = (rtt(i, node i) + L(node i, node j) + rtt(j, node j)) / 2 + SFU_MS per node on the way

A room is looked at when it was at its fullest, and only if two or more people were in it whose round trips are known.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.core.delay import SFU_MS
from controlplane.core.mesh import Pair, between
from controlplane.core.model import Location, RegionId
from controlplane.simulation.inputs import ClientRtts
from controlplane.simulation.replay import RoomRecord

LONG_DELAY_MS = 150.0
"""One way; beyond it people begin to talk over one another (ITU-T G.114)."""

LONG_EDGE_MS = 100.0
"""Round trip; beyond it a repaired packet comes too late for most jitter buffers."""

MAX_SCORED = 100
"""People of one room whose pairs are counted; of a larger room so many are drawn: pairs grow with the square."""

BUCKETS_PER_MS = 4
"""Delays are counted in quarters of a millisecond, so that a percentile costs no memory."""

Seat = tuple[RegionId, str]
"""Region and node."""


@dataclass(frozen=True, slots=True)
class Case:
    """A room at its fullest, and all that is true of its people."""

    rows: tuple[Mapping[RegionId, float], ...]
    """True round trips by region, one mapping per person."""
    locations: tuple[Location | None, ...]
    seats: tuple[Seat, ...]
    """Where placement had put them."""
    first: Location | None
    """What was believed of the place of the room's first joiner."""
    people: int
    """How many there were; more than `rows` when some were drawn for the score."""
    moves: int
    room: str


@dataclass(frozen=True, slots=True)
class Cases:
    """The rooms that can be scored, and how many cannot."""

    rooms: tuple[Case, ...]
    alone: int
    """Rooms that never had two people at once."""
    unknown: int
    """Rooms with fewer than two people whose true round trips are known."""


def cases_of(records: Sequence[RoomRecord], truth: ClientRtts, *, seed: int) -> Cases:
    """Return what can be scored. Of people without a known round trip to their edge nothing can be said."""
    dice = random.Random(seed)  # noqa: S311 - the same rooms give the same figures
    rooms, alone, unknown = [], 0, 0
    for record in records:
        if len(record.guests) < 2:
            alone += 1
            continue
        known = [one for one in record.guests if one.region in truth.get(one.client, {})]
        common = [truth[one.client].keys() for one in known]
        if len(known) < 2 or not frozenset.intersection(*map(frozenset, common)):
            unknown += 1
            continue
        if len(known) > MAX_SCORED:
            known = dice.sample(known, MAX_SCORED)
        rooms.append(
            Case(
                rows=tuple(truth[one.client] for one in known),
                locations=tuple(one.location for one in known),
                seats=tuple((one.region, one.node) for one in known),
                first=record.first.location,
                people=len(record.guests),
                moves=record.moves,
                room=record.first.room,
            )
        )
    return Cases(tuple(rooms), alone, unknown)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a way of placing people comes to; delays one way, edges as round trips, both in milliseconds."""

    rooms: int
    pairs: float
    mean_ms: float
    """Over all pairs."""
    p95_ms: float
    room_mean_ms: float
    """Mean over rooms of a room's mean: small rooms count as much as large ones."""
    over_150: float
    """Share of pairs whose delay is above LONG_DELAY_MS."""
    edge_mean_ms: float
    edges_over_100: float
    """Share of people whose edge is farther than LONG_EDGE_MS."""
    sfus_per_room: float


class Tally:
    """Adds up rooms into figures."""

    def __init__(self) -> None:
        self._delays: defaultdict[int, float] = defaultdict(float)
        self._pairs = self._sum = self._long = 0.0
        self._people = self._edge_sum = self._long_edges = 0.0
        self._rooms = self._sfus = 0
        self._room_means = 0.0

    def add(self, case: Case, seats: Sequence[Seat], matrix: Mapping[Pair, float]) -> float:
        """Count a room whose people sit on these seats; return its mean delay in milliseconds."""
        halves = [row[region] / 2 for row, (region, _) in zip(case.rows, seats, strict=True)]
        # Of a large room some were drawn: each of their pairs stands for several.
        weight = case.people * (case.people - 1) / (len(halves) * (len(halves) - 1))
        total = long = 0.0
        for i, (region, node) in enumerate(seats):
            for j in range(i):
                there, other = seats[j]
                delay = halves[i] + halves[j]
                if node == other:
                    delay += SFU_MS
                else:
                    delay += between(matrix, region, there) / 2 + 2 * SFU_MS
                total += delay
                long += delay > LONG_DELAY_MS
                self._delays[int(delay * BUCKETS_PER_MS)] += weight
        pairs = len(halves) * (len(halves) - 1) / 2
        self._pairs += pairs * weight
        self._sum += total * weight
        self._long += long * weight
        each = case.people / len(halves)
        self._people += case.people
        self._edge_sum += 2 * sum(halves) * each
        self._long_edges += sum(2 * half > LONG_EDGE_MS for half in halves) * each
        self._rooms += 1
        self._sfus += len(set(seats))
        self._room_means += total / pairs
        return total / pairs

    def figures(self) -> Figures | None:
        """Return what it comes to; None when there was no room."""
        if not self._rooms:
            return None
        return Figures(
            rooms=self._rooms,
            pairs=self._pairs,
            mean_ms=self._sum / self._pairs,
            p95_ms=self.percentile(0.95),
            room_mean_ms=self._room_means / self._rooms,
            over_150=self._long / self._pairs,
            edge_mean_ms=self._edge_sum / self._people,
            edges_over_100=self._long_edges / self._people,
            sfus_per_room=self._sfus / self._rooms,
        )

    def percentile(self, share: float) -> float:
        """Return the delay in milliseconds that this share of the pairs does not exceed."""
        wanted, seen = share * self._pairs, 0.0
        for bucket, count in sorted(self._delays.items()):
            seen += count
            if seen >= wanted:
                return (bucket + 1) / BUCKETS_PER_MS
        return 0.0

    def distribution(self) -> list[tuple[float, float]]:
        """Return (delay in milliseconds, share of pairs that do not exceed it), for a picture."""
        seen, points = 0.0, []
        for bucket, count in sorted(self._delays.items()):
            seen += count
            points.append(((bucket + 1) / BUCKETS_PER_MS, seen / self._pairs))
        return points
