"""What a new topology would do to the people who are there: who moves, what it does to the delay, what is left.

Forced are those whose region goes, or whose residency rule their region would no longer keep. They are placed anew as
services/moving.py would do it. Everybody else moves only for what `improve` finds worth it. A region in which no node
has registered counts with the nodes that the topology wants there.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controlplane.core.allocate import RefusalKind, Refused
from controlplane.core.delay import room_delay
from controlplane.core.mesh import Pair, region_matrix
from controlplane.core.model import (
    Assignment,
    NodeId,
    NodeState,
    ParticipantId,
    RegionId,
    Room,
    RoomId,
    Topology,
)
from controlplane.core.rehome import improve
from controlplane.core.what_if import PaperRoom, WhatIf, virtual_nodes
from controlplane.core.world import World

MAX_STEPS = 10
"""Improvement steps of one room, each of which moves at most `rehomes_per_room`: rooms with more people are not
improved at all."""


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """Somebody who would sit elsewhere."""

    room: RoomId
    participant: ParticipantId
    from_region: RegionId
    from_node: NodeId
    to_region: RegionId | None
    """None when nobody could take the participant."""
    to_node: NodeId | None
    gain_ms: float | None
    """What the room's mean cost wins with the step that the move belongs to; None for a move that has to be."""
    because: str


@dataclass(frozen=True, slots=True)
class DelayFigures:
    """Over rooms in which somebody hears somebody: their mean pair delay, one way."""

    rooms: int
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class RegionCapacity:
    """A region, and what were left if it were lost."""

    region: RegionId
    nodes: int
    places: int
    in_use: int
    """After the change."""
    planned: bool
    """No node has registered there: the nodes are those that the topology wants."""
    left_if_lost: int
    """Places of all other regions minus everybody: negative is a shortage."""


@dataclass(frozen=True, slots=True)
class TopologyPlan:
    """What would happen."""

    moves: tuple[PlannedMove, ...]
    """Those that have to be first, then by gain."""
    delay_before: DelayFigures
    delay_after: DelayFigures
    residency_breaks: tuple[PlannedMove, ...]
    """Those of the moves whose residency rule their region would break, or no region would keep."""
    capacity: tuple[RegionCapacity, ...]
    """Every region of the new topology, in order of id."""
    rooms_examined: int
    people_examined: int

    @property
    def stranded(self) -> tuple[PlannedMove, ...]:
        """Those whom nobody could take."""
        return tuple(move for move in self.moves if move.to_node is None)


def plan_change(
    before: World, after: Topology, rooms: Sequence[Room], *, now: float
) -> TopologyPlan:
    """Return what replacing the topology of `before` would do to these rooms. Takes milliseconds for each room."""
    changed = world_after(before, after, now=now)
    what_if = WhatIf(changed, now=now)
    moves: list[PlannedMove] = []
    breaks: list[PlannedMove] = []
    delays: list[tuple[float | None, float | None]] = []
    for room in rooms:
        paper = what_if.room(room)
        forced = _forced(paper, before, what_if)
        breaks += [move for move, is_break in forced if is_break]
        moves += [move for move, _ in forced]
        moves += _for_gain(paper, what_if)
        was = room_delay(room.assignments.values(), before.region_rtt)
        will = room_delay(paper.people.values(), changed.region_rtt)
        delays.append((was.mean_ms if was else None, will.mean_ms if will else None))
    return TopologyPlan(
        moves=tuple(sorted(moves, key=_order)),
        delay_before=_figures(was for was, _ in delays),
        delay_after=_figures(will for _, will in delays),
        residency_breaks=tuple(breaks),
        capacity=_capacity(what_if.world, before),
        rooms_examined=len(rooms),
        people_examined=sum(len(room.assignments) for room in rooms),
    )


def world_after(before: World, after: Topology, *, now: float) -> World:
    """Return the world with the new topology, with the nodes that it wants where none is, and measured round trips."""
    there = {node.region for node in before.nodes.values()}
    planned = {
        node.id: node
        for id_, region in sorted(after.regions.items())
        if id_ not in there
        for node in virtual_nodes(id_, region.desired_nodes, region.node_capacity, now=now)
    }
    return replace(
        before,
        topology=after,
        nodes={**before.nodes, **planned},
        region_rtt=_matrix_after(before, after),
    )


def _matrix_after(before: World, after: Topology) -> Mapping[Pair, float]:
    """Return the matrix of the new topology: what was measured stays, the rest is declared or guessed anew.

    Nodes of a region that goes keep their round trips: people sit there until they are moved.
    """
    seeded = region_matrix(before.topology, {})
    measured = {pair: rtt for pair, rtt in before.region_rtt.items() if rtt != seeded.get(pair)}
    return {**before.region_rtt, **region_matrix(after, measured)}


def _forced(paper: PaperRoom, before: World, what_if: WhatIf) -> list[tuple[PlannedMove, bool]]:
    """Move those who cannot stay; each with whether its residency rule is what breaks."""
    found: list[tuple[PlannedMove, bool]] = []
    for who in sorted(paper.people):
        one = paper.people[who]
        region = what_if.world.topology.regions.get(one.region)
        if region is not None:
            missing = one.require.residency - region.residency
            if missing:
                why = f"{one.region} would no longer carry {', '.join(sorted(missing))}"
                found.append((_move_anew(paper, one, why)[0], True))
        elif one.region in before.topology.regions:  # else it is not this change's doing
            found.append(_move_anew(paper, one, f"{one.region} would be removed"))
    return found


def _move_anew(paper: PaperRoom, one: Assignment, why: str) -> tuple[PlannedMove, bool]:
    """Return the move, and whether nobody can take the participant because of its residency rule."""
    outcome = paper.place_again(one.participant)
    to_region, to_node, breaks = None, None, False
    if isinstance(outcome, Refused):
        breaks = outcome.kind is RefusalKind.RESIDENCY
        why = f"{why}, and nobody can take it: {'. '.join(outcome.because)}"
    else:
        to_region, to_node = outcome.assignment.region, outcome.assignment.node
    move = PlannedMove(
        room=one.room,
        participant=one.participant,
        from_region=one.region,
        from_node=one.node,
        to_region=to_region,
        to_node=to_node,
        gain_ms=None,
        because=why,
    )
    return move, breaks


def _for_gain(paper: PaperRoom, what_if: WhatIf) -> list[PlannedMove]:
    """Move those for whom the room wins enough, step by step, as the minutes after the change would."""
    found: dict[ParticipantId, PlannedMove] = {}
    for _ in range(MAX_STEPS):
        step = improve(paper.as_room(), what_if.world, now=what_if.now, budget=len(paper.people))
        if not step:
            break
        for one in step:
            before = found.get(one.participant)
            from_region = before.from_region if before else paper.people[one.participant].region
            found[one.participant] = PlannedMove(
                room=paper.id,
                participant=one.participant,
                from_region=from_region,
                from_node=before.from_node if before else one.from_node,
                to_region=one.to_region,
                to_node=one.to_node,
                gain_ms=one.gain_ms,
                because=one.because,
            )
            paper.seat(one.participant, one.to_node, one.to_region)
    return list(found.values())


def _order(move: PlannedMove) -> tuple[bool, bool, float, RoomId, ParticipantId]:
    return (
        move.gain_ms is not None,
        move.to_node is not None,
        -(move.gain_ms or 0.0),
        move.room,
        move.participant,
    )


def _figures(means: Iterable[float | None]) -> DelayFigures:
    known = sorted(mean for mean in means if mean is not None)
    return DelayFigures(len(known), _percentile(known, 0.5), _percentile(known, 0.95))


def _percentile(ordered: Sequence[float], fraction: float) -> float | None:
    """Return the nearest-rank percentile of numbers in order."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)] if ordered else None


def _capacity(world: World, before: World) -> tuple[RegionCapacity, ...]:
    alive = [node for node in world.nodes.values() if node.state is not NodeState.LOST]
    declared = [node for node in alive if node.region in world.topology.regions]
    everybody = sum(node.participants + world.placed.get(node.id, 0) for node in alive)
    places = sum(node.capacity for node in declared)
    found = []
    for region in sorted(world.topology.regions):
        here = [node for node in declared if node.region == region]
        own = sum(node.capacity for node in here)
        found.append(
            RegionCapacity(
                region=region,
                nodes=len(here),
                places=own,
                in_use=sum(node.participants + world.placed.get(node.id, 0) for node in here),
                planned=bool(here) and all(node.id not in before.nodes for node in here),
                left_if_lost=places - own - everybody,
            )
        )
    return tuple(found)
