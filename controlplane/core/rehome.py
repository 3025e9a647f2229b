"""Who should be moved, now that the room has changed: the joint improvement step.

Each join is decided for the people who are there. When others come and go, a sum of good decisions can be a bad room.
So after each change the room is planned as a whole, from several beginnings, and compared with how people sit: moves
that do not earn their price are taken out of the plan, and what is left is done only if the room's mean cost falls by
`rehome_gain_ms`. A move costs its person a second of picture.

The cost of a pair is that of core/allocate.py, one-way delay + `edge_weight` x mean access round trip. It is a sum over
people plus a sum over pairs of regions, so the change that a move makes takes no loop to know (core/seating.py).

Nobody is moved because of one odd measurement: round trips of calls come as quartiles of a window, probes as minima
of samples, and in doubt everybody sits well: see DOUBT.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlplane.core.delay import SFU_MS
from controlplane.core.load import ROOM_HEADROOM
from controlplane.core.mesh import to_each
from controlplane.core.model import (
    Assignment,
    Join,
    NodeId,
    ParticipantId,
    RegionId,
    Requirements,
    Role,
    Room,
)
from controlplane.core.openings import emptiest
from controlplane.core.rtt import unknown_rtt
from controlplane.core.rules import region_refusal
from controlplane.core.seating import EPSILON, Seating
from controlplane.core.sums import access_rtt
from controlplane.core.world import World

AGAIN_AFTER_S = 60.0
"""Nobody is moved twice within a minute: who is sent to and fro hears more gaps than any detour would cost."""

SETTLED_S = 30.0
PAIR_GAIN = 7.0
"""A room of two that was joined in the last half minute is probably still filling, and who is moved now cannot be moved
when the others are there: such a move has to gain seven times as much."""

EACH_GAIN = 0.5
MARGIN_GAIN = 0.25
"""Parts of the gain that each move of a joint step has to bring on average, and that taking any one move out of the
step has to cost: a step of five moves for 3 ms is not worth five gaps."""

PEOPLE_MAX = 64
"""In larger rooms one move gains less than 3 ms unless it saves that person 100 ms, which its own join would have
seen; and many moves are a broken call for many."""

DOUBT = 0.25
"""Standard deviations that are taken off the round trip to the present place and added to those to the others."""

NEAREST = 3
"""Regions that are looked at for each person, beside those in use and the best for all: the fourth never won."""

BEGINNINGS = 1
"""Single regions from which the plan is begun, beside the seats as they are and everybody at the nearest."""


ANYWHERE = Requirements()

_UNKNOWN = unknown_rtt()


@dataclass(frozen=True, slots=True)
class Rehome:
    """One person's part in an improvement."""

    participant: ParticipantId
    from_node: NodeId
    to_node: NodeId
    to_region: RegionId
    gain_ms: float
    """By how much the room's mean cost falls with the whole step that this move belongs to."""
    because: str


def improve(room: Room, world: World, *, now: float, budget: int) -> tuple[Rehome, ...]:
    """Return the moves of the best joint step, at most `budget`; none when nothing earns its price.

    How many of the room were moved within the last minute counts against the room's own limit here; the fleet's is the
    caller's, who gives what is left of it as `budget`.
    """
    people = [room.assignments[who] for who in sorted(room.assignments)]
    policy = world.topology.policy
    moved = sum(_was_moved(one, now) for one in people)
    budget = min(budget, policy.rehomes_per_room - moved)
    if budget < 1 or not 2 <= len(people) <= PEOPLE_MAX:
        return ()
    least = policy.rehome_gain_ms
    if len(people) == 2 and 0 <= now - max(one.assigned_at for one in people) < SETTLED_S:
        least *= PAIR_GAIN
    if _is_well_together(people, least, policy.edge_weight):
        return ()
    hosts = _Hosts(people, world, now)
    table = _Table(people, hosts, world, now)
    if table.pairs == 0:
        return ()
    if table.cost_now - table.least_cost < least * table.pairs:
        return ()
    step = _best_step(table, least, budget)
    if step is None:
        return ()
    gain, target = step
    return tuple(
        Rehome(
            one.participant,
            one.node,
            hosts.node(table.regions[seat]),
            table.regions[seat],
            gain,
            f"the room's mean falls by {gain:.0f} ms",
        )
        for one, seat, before in zip(people, target, table.seats, strict=True)
        if seat != before
    )


def _is_well_together(people: Sequence[Assignment], least: float, edge_weight: float) -> bool:
    """Return whether people on one SFU would gain less than `least` even if each sat at the nearest, still together.

    Most rooms are like that: from one city, in one place. It saves them the plan.
    """
    first = people[0]
    if any(one.node != first.node or one.role is not Role.PUBLISHER for one in people):
        return False
    saved = sum(
        access_rtt(one).rtt_ms - min((rtt.rtt_ms for rtt in one.rtts.values()), default=0.0)
        for one in people
    )
    return (1 + edge_weight) * saved < least * len(people)


def _was_moved(one: Assignment, now: float) -> bool:
    return one.moved_at is not None and 0 <= now - one.moved_at < AGAIN_AFTER_S


def _best_step(table: "_Table", least: float, budget: int) -> tuple[float, list[int]] | None:
    """Return the gain and the seats of the step that is worth most, its moves' price taken off; or None."""
    best: tuple[float, float, list[int]] | None = None
    tried: set[tuple[int, ...]] = set()
    for seats in table.beginnings():
        if tuple(seats) in tried:
            continue
        tried.add(tuple(seats))
        plan = Seating(table, seats)
        plan.descend()
        plan.prune(MARGIN_GAIN * least, budget)
        gain = (table.cost_now - plan.cost) / table.pairs
        moves = plan.moves()
        if not moves or gain < max(EPSILON, least, EACH_GAIN * least * moves):
            continue
        worth = gain - MARGIN_GAIN * least * moves
        if best is None or worth > best[0] + 1e-9:
            best = (worth, gain, plan.seats)
    return None if best is None else (best[1], best[2])


class _Hosts:
    """The node that would take newcomers of this room in each of `regions`; the others have none."""

    def __init__(self, people: Sequence[Assignment], world: World, now: float) -> None:
        self._carriers = {one.node for one in people}
        self._lot = zlib.crc32(people[0].room.encode())
        self._open = world.openings(now=now).by_region
        self.regions = frozenset(region for region, open_ in self._open.items() if open_)

    def node(self, region: RegionId) -> NodeId:
        """Return the region's node: the room's own while it has headroom, else the emptiest."""
        open_ = self._open[region]
        own = [
            one
            for one in open_
            if one[2].id in self._carriers and one[1] < ROOM_HEADROOM and not one[0]
        ]
        return emptiest(own or open_, self._lot)[2].id


class _Table:
    """A room as numbers: people by index, regions by index. `between` is symmetric, `access` summed over partners."""

    def __init__(
        self, people: Sequence[Assignment], hosts: _Hosts, world: World, now: float
    ) -> None:
        policy = world.topology.policy
        self.regions = _promising(people, hosts, world)
        index = {region: at for at, region in enumerate(self.regions)}
        self.seats = [index[one.region] for one in people]
        self.publishes = [one.role is Role.PUBLISHER for one in people]
        publishers = sum(self.publishes)
        self.partners = [len(people) - 1 if p else publishers for p in self.publishes]
        self.pairs = sum(self.partners) / 2
        self.access = [
            [(1 + policy.edge_weight) / 2 * partners * rtt for rtt in _access(one, self.regions)]
            for one, partners in zip(people, self.partners, strict=True)
        ]
        size = len(self.regions)
        self.between = [[SFU_MS] * size for _ in range(size)]
        for a, region in enumerate(self.regions):
            for b, rtt in enumerate(to_each(world.region_rtt, region, self.regions[:a])):
                self.between[a][b] = self.between[b][a] = rtt / 2 + 2 * SFU_MS
        open_ = hosts.regions & world.topology.regions.keys()
        anybody = [at for at, region in enumerate(self.regions) if region in open_]
        self.allowed = []
        for one, seat in zip(people, self.seats, strict=True):
            if _was_moved(one, now) or one.region not in one.rtts:
                # Nothing is known of whom a control plane that was restarted found on a node; its call soon tells.
                self.allowed.append([seat])
            elif one.require == ANYWHERE and seat in anybody:
                self.allowed.append(anybody)
            else:
                self.allowed.append(_allowed(one, self.regions, hosts, world))
        self.cost_now = Seating(self, self.seats).cost

    @property
    def least_cost(self) -> float:
        """Return a cost that no plan can fall below: everybody at the nearest, and all of them on one SFU."""
        return sum(map(min, self.access)) + self.pairs * SFU_MS

    def beginnings(self) -> Iterable[list[int]]:
        """Yield seats to begin a plan from; a person who may not sit somewhere stays."""
        yield list(self.seats)
        everywhere = range(len(self.regions))
        total = [sum(row[r] for row in self.access) for r in everywhere]
        for region in sorted(everywhere, key=lambda r: (total[r], r))[:BEGINNINGS]:
            yield [
                region if region in allowed else seat
                for allowed, seat in zip(self.allowed, self.seats, strict=True)
            ]
        yield [
            min(allowed, key=lambda r, row=row: (row[r], r))  # type: ignore[misc]
            for allowed, row in zip(self.allowed, self.access, strict=True)
        ]


def _promising(people: Sequence[Assignment], hosts: _Hosts, world: World) -> list[RegionId]:
    """Return the regions in use, the nearest few of each person and the best few for all of them together."""
    found = {one.region for one in people}
    open_ = sorted(hosts.regions & world.topology.regions.keys())
    everywhere = range(len(open_))
    total = [0.0] * len(open_)
    for one in people:
        rtts = [(one.rtts.get(region) or _UNKNOWN).rtt_ms for region in open_]
        found.update(open_[at] for at in sorted(everywhere, key=rtts.__getitem__)[:NEAREST])
        total = [a + b for a, b in zip(total, rtts, strict=True)]
    found.update(open_[at] for at in sorted(everywhere, key=total.__getitem__)[:NEAREST])
    return sorted(found)


def _access(one: Assignment, regions: Sequence[RegionId]) -> list[float]:
    """Return the round trips that count: in doubt the present place is nearer, every other one farther."""
    found = [one.rtts.get(region) or _UNKNOWN for region in regions]
    access = [rtt + DOUBT * spread for rtt, spread, *_ in found]
    here = regions.index(one.region)
    access[here] = max(0.0, found[here].rtt_ms - DOUBT * found[here].spread_ms)
    return access


def _allowed(
    one: Assignment, regions: Sequence[RegionId], hosts: _Hosts, world: World
) -> list[int]:
    """Return the regions, by index, where a person may sit: the present one, and those that no rule refuses."""
    join = Join(one.room, one.participant, one.session, role=one.role, require=one.require)
    return [
        at
        for at, region in enumerate(regions)
        if region == one.region
        or (
            region in hosts.regions
            and region_refusal(join, region, world.topology.regions.get(region)) is None
        )
    ]
