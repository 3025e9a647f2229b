"""The virtual control plane: a trace's joins and leaves through the same core that decides real ones.

What the services do around the core is done here in one thread and with the trace's clock: knowledge is learned,
seats are kept and summed up, people are moved within the limits of the policy, links follow. What is measured is
exactly what the probe plan asked for; the truth about a call becomes known WINDOW_S after it began, as from a node.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.core.allocate import Refused, allocate
from controlplane.core.cascade import plan as plan_links
from controlplane.core.learned import LearnedRtts
from controlplane.core.mesh import Pair, region_matrix
from controlplane.core.model import (
    Assignment,
    Decision,
    Join,
    Location,
    NodeId,
    ParticipantId,
    RegionId,
    Role,
    Room,
    RoomId,
    RttEstimate,
    RttSource,
    Topology,
)
from controlplane.core.place import NOWHERE, Place
from controlplane.core.probes import plan_more, plan_probes
from controlplane.core.rehome import Rehome, improve
from controlplane.core.rtt import Estimates, estimate
from controlplane.core.session_rtt import MIN_SPREAD_MS, WINDOW_S
from controlplane.core.sums import Sums, adding, without
from controlplane.simulation.client import Clients, Measured
from controlplane.simulation.fleet import Fleet
from controlplane.simulation.inputs import ClientRtts, Op, TraceEvent

_NOT_KEPT = Decision(NodeId(""), RegionId(""), (), (), (), 0.0)
"""What assignments have for a decision: nothing asks why later, and a trace has millions of joins."""

MOVES_WINDOW_S = 60.0
"""The policy's limits of moves are per minute."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to replay."""

    report_interval_s: float = 10.0
    """Seconds between the nodes' reports of their load."""
    noise_ms: float = 0.0
    """Mean of what queues add to a sample of a round trip."""
    seed: int = 0
    """Seed of the dice that `noise_ms` needs."""


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one line of the trace."""

    event: TraceEvent
    region: RegionId | None = None
    """Where the participant sits; None for a leave and for a refused join."""
    node: NodeId | None = None
    probed: tuple[RegionId, ...] = ()
    moves: tuple[Rehome, ...] = ()
    links: tuple[tuple[NodeId, NodeId], ...] = ()
    """Pairs of nodes that carry the room together after this, each pair once."""
    estimate_ms: float | None = None
    """The round trip that placement expected."""
    refusal: str | None = None
    """Why nothing took the participant."""

    def record(self) -> dict[str, Any]:
        """Return the step as a line of the output says it."""
        line: dict[str, Any] = {
            "t": self.event.t,
            "op": self.event.op.value,
            "room": self.event.room,
            "participant": self.event.participant,
            "region": self.region,
            "node": self.node,
            "probed": self.probed,
            "moves": [
                {
                    "participant": move.participant,
                    "from": move.from_node,
                    "to": move.to_node,
                    "to_region": move.to_region,
                    "gain_ms": round(move.gain_ms, 3),
                }
                for move in self.moves
            ],
            "links": self.links,
            "estimate_ms": None if self.estimate_ms is None else round(self.estimate_ms, 3),
        }
        if self.refusal is not None:
            line["refusal"] = self.refusal
        return line


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody who sat in a room, as the scores need it."""

    client: str
    location: Location | None
    region: RegionId
    node: NodeId


@dataclass(frozen=True, slots=True)
class RoomRecord:
    """What is left of a room when all is over."""

    first: TraceEvent
    """The first join: where a system with one SFU per room would have put it."""
    guests: tuple[Guest, ...]
    """Who sat where when the room was at its fullest."""
    moves: int


@dataclass(slots=True)
class Counts:
    """What happened in all."""

    joins: int = 0
    refused: int = 0
    rejoins: int = 0
    leaves: int = 0
    unknown_leaves: int = 0
    """Leaves of people who were not there."""
    probes: int = 0
    moves: int = 0
    smallest_gain_ms: float | None = None


@dataclass(slots=True)
class _Seat:
    """Somebody who is in a room."""

    join: TraceEvent
    report: int
    """The nodes' last report when the seat was taken."""


@dataclass(slots=True)
class _Room:
    """A room on its way through the trace."""

    first: TraceEvent
    assignments: dict[ParticipantId, Assignment] = field(default_factory=dict)
    seats: dict[ParticipantId, _Seat] = field(default_factory=dict)
    sums: Sums = field(default_factory=dict)
    most: int = 0
    peak: tuple[Guest, ...] = ()
    moved: tuple[float, ...] = ()
    """When people were moved, within the last minute."""
    moves: int = 0

    def guests(self) -> tuple[Guest, ...]:
        """Return who sits where now."""
        return tuple(
            Guest(self.seats[who].join.client, self.seats[who].join.location, one.region, one.node)
            for who, one in self.assignments.items()
        )


class Replay:
    """One run of a trace through one topology. `step` takes the events in order."""

    def __init__(
        self,
        topology: Topology,
        region_rtt: Mapping[Pair, float],
        truth: ClientRtts,
        settings: Settings,
    ) -> None:
        """Begin with nobody; `region_rtt` are measured pairs, the others are declared or guessed by distance."""
        matrix = region_matrix(topology, region_rtt)
        self.fleet = Fleet(topology, matrix, report_interval_s=settings.report_interval_s)
        self.counts = Counts()
        self._policy = topology.policy
        self._clients = Clients(truth, noise_ms=settings.noise_ms, seed=settings.seed)
        self._learned = LearnedRtts()
        self._rooms: dict[RoomId, _Room] = {}
        self._moved: deque[float] = deque()
        self._to_measure: deque[tuple[float, RoomId, ParticipantId, int]] = deque()
        self._epoch = 0

    def step(self, event: TraceEvent) -> Step:
        """Do what a line of the trace says."""
        self._measure_sessions(event.t)
        self.fleet.advance(event.t)
        return self._join(event) if event.op is Op.JOIN else self._leave(event)

    def records(self) -> list[RoomRecord]:
        """Return every room that ever was, in order of its first join."""
        return [
            RoomRecord(
                room.first,
                room.guests() if len(room.seats) == room.most else room.peak,
                room.moves,
            )
            for room in self._rooms.values()
        ]

    # --- what happens ---------------------------------------------------------------------------

    def _join(self, event: TraceEvent) -> Step:
        self.counts.joins += 1
        room = self._rooms.get(event.room)
        if room is None:
            room = self._rooms[event.room] = _Room(event)
        current = room.seats.get(event.participant)
        if current is not None:
            self.counts.rejoins += 1
            if current.join.client == event.client:
                return self._again(event, room)
        others = without(room.sums, room.assignments.get(event.participant))
        probed, estimates = self._look_around(event, others)
        join = Join(event.room, event.participant, event.client, probes=probed.answers)
        world = self.fleet.world
        decision = allocate(join, others, world, estimates, now=event.t)
        if isinstance(decision, Refused):
            self.counts.refused += 1
            return Step(
                event,
                probed=probed.asked,
                links=self._links(event.room, room),
                refusal="; ".join(decision.because),
            )
        self._unseat(room, event.participant)
        self._seat(room, event, decision, estimates)
        moves = self._improve(event.room, room, event.t)
        return Step(
            event,
            decision.region,
            decision.node,
            probed.asked,
            moves,
            self._links(event.room, room),
            estimates.rtts[decision.region].rtt_ms,
        )

    def _again(self, event: TraceEvent, room: _Room) -> Step:
        """Answer a repeated join of the same client as the API does: with the seat that it has."""
        one = room.assignments[event.participant]
        expected = one.rtts[one.region].rtt_ms
        links = self._links(event.room, room)
        return Step(event, one.region, one.node, links=links, estimate_ms=expected)

    def _leave(self, event: TraceEvent) -> Step:
        self.counts.leaves += 1
        room = self._rooms.get(event.room)
        if room is None or event.participant not in room.seats:
            self.counts.unknown_leaves += 1
            return Step(event, links=self._links(event.room, room) if room else ())
        # Nobody is moved: a room that people leave is mostly about to end (services/changed_rooms.py).
        self._unseat(room, event.participant)
        return Step(event, links=self._links(event.room, room))

    # --- knowledge ------------------------------------------------------------------------------

    def _look_around(self, event: TraceEvent, others: Sums) -> tuple[Measured, Estimates]:
        """Return what the client measures and what follows for every region."""
        world = self.fleet.world
        place = NOWHERE if event.location is None else Place(event.location, "geo")
        learned = self._learned.look(self._clients.network(event.client), now=event.t)
        plan = plan_probes(place, world, learned, others, now=event.t)
        measured = self._clients.measure(
            event.client, plan, more=lambda: plan_more(plan, world, now=event.t)
        )
        self.counts.probes += len(measured.asked)
        estimates = estimate(measured.answers, place, world.topology, world.region_rtt, learned)
        return measured, estimates

    def _measure_sessions(self, now: float) -> None:
        """Learn the round trips of the calls that began WINDOW_S ago or earlier."""
        while self._to_measure and self._to_measure[0][0] <= now:
            at, id_, who, epoch = self._to_measure.popleft()
            room = self._rooms[id_]
            one = room.assignments.get(who)
            if one is None or one.epoch != epoch:
                continue
            client = room.seats[who].join.client
            rtt = self._clients.in_session(client, one.region)
            if rtt is None:
                continue
            self._learned.note(one.network, one.region, rtt, session=f"{client}/{who}", now=at)
            found = RttEstimate(rtt, MIN_SPREAD_MS, RttSource.SESSION)
            self._put(room, replace(one, rtts={**one.rtts, one.region: found}))

    # --- seats ----------------------------------------------------------------------------------

    def _seat(
        self, room: _Room, event: TraceEvent, decision: Decision, estimates: Estimates
    ) -> None:
        self._epoch += 1
        self._put(
            room,
            Assignment(
                room=event.room,
                participant=event.participant,
                session=event.client,
                role=Role.PUBLISHER,
                node=decision.node,
                region=decision.region,
                epoch=self._epoch,
                assigned_at=event.t,
                expires_at=float("inf"),
                decision=_NOT_KEPT,
                rtts=estimates.rtts,
                live=True,
                network=self._clients.network(event.client),
            ),
        )
        report = self.fleet.seat(decision.node)
        room.seats[event.participant] = _Seat(event, report)
        room.most = max(room.most, len(room.seats))
        self._expect_measurement(event.room, event.participant, event.t)

    def _unseat(self, room: _Room, who: ParticipantId) -> None:
        """Free somebody's seat, if there is one; a room at its fullest is remembered first."""
        seat = room.seats.get(who)
        if seat is None:
            return
        if len(room.seats) == room.most:
            room.peak = room.guests()
        one = room.assignments.pop(who)
        del room.seats[who]
        room.sums = without(room.sums, one)
        self.fleet.free(one.node, seat.report)

    def _put(self, room: _Room, one: Assignment) -> None:
        room.sums = adding(without(room.sums, room.assignments.get(one.participant)), one)
        room.assignments[one.participant] = one

    def _expect_measurement(self, room: RoomId, who: ParticipantId, now: float) -> None:
        self._to_measure.append((now + WINDOW_S, room, who, self._epoch))

    # --- moves and links ------------------------------------------------------------------------

    def _improve(self, id_: RoomId, room: _Room, now: float) -> tuple[Rehome, ...]:
        """Move people of a room that has changed, as far as the policy's limits go."""
        since = now - MOVES_WINDOW_S
        room.moved = tuple(at for at in room.moved if at > since)
        while self._moved and self._moved[0] <= since:
            self._moved.popleft()
        budget = min(
            self._policy.rehomes_per_room - len(room.moved),
            self._policy.rehomes_per_fleet - len(self._moved),
        )
        if budget <= 0 or len(room.seats) < 2:
            return ()
        moves = improve(Room(id_, room.assignments), self.fleet.world, now=now, budget=budget)
        for move in moves:
            self._move(id_, room, move, now)
        return moves

    def _move(self, id_: RoomId, room: _Room, move: Rehome, now: float) -> None:
        self._epoch += 1
        one = room.assignments[move.participant]
        moved = replace(
            one, node=move.to_node, region=move.to_region, epoch=self._epoch, moved_at=now
        )
        self._put(room, moved)
        seat = room.seats[move.participant]
        self.fleet.free(one.node, seat.report)
        seat.report = self.fleet.seat(move.to_node)
        self._expect_measurement(id_, move.participant, now)
        room.moved += (now,)
        self._moved.append(now)
        room.moves += 1
        self.counts.moves += 1
        smallest = self.counts.smallest_gain_ms
        self.counts.smallest_gain_ms = (
            move.gain_ms if smallest is None else min(smallest, move.gain_ms)
        )

    def _links(self, id_: RoomId, room: _Room) -> tuple[tuple[NodeId, NodeId], ...]:
        if len(room.sums) < 2:
            return ()
        found = plan_links(id_, room.sums, self.fleet.world)
        ends = ((one.from_node, one.to_node) for one in found)
        return tuple(sorted({(a, b) if a < b else (b, a) for a, b in ends}))
