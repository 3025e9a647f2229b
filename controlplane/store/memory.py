"""The store of a single process: plain dictionaries.

No method awaits before it is done, so on one event loop each is atomic by itself. Everything is bounded: events by a
ring, the epochs of people who left by MAX_EPOCHS (see `_Epochs`), learned round trips by MAX_PREFIXES of
core/learned.py, the rest by who is there.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest
from itertools import islice
from types import MappingProxyType

from controlplane.core.learned import LearnedRtts, RttSample
from controlplane.core.model import (
    Assignment,
    Event,
    LinkStatus,
    Node,
    NodeId,
    ParticipantId,
    RegionId,
    Role,
    Room,
    RoomId,
    RttEstimate,
    RttSource,
)
from controlplane.core.sums import NOBODY, Sums, access_us, adding, without
from controlplane.store.base import Admitted, Conflict, StoredTopology, Totals

MAX_EVENTS = 10_000
"""Kept for readers that come back: minutes of a busy system, a day of a quiet one, a few megabytes."""

MAX_EPOCHS = 100_000
"""Participants who left and whose epochs are remembered one by one."""

Key = tuple[RoomId, ParticipantId]


class MemoryStore:
    """Implements the Store protocol; see controlplane/store/base.py for the guarantees."""

    def __init__(self, *, first: int = 1, max_events: int = MAX_EVENTS) -> None:
        """Begin empty.

        `first` is the lowest epoch and the lowest event id that is ever given. Nodes and readers of events outlive
        this store and remember, so a process passes its starting time in milliseconds: its numbers are then above
        those of the process before it, and an event id from back then is one that is gone.
        """
        self._rooms: dict[RoomId, dict[ParticipantId, Assignment]] = {}
        self._sums: dict[RoomId, Sums] = {}
        self._on_node: dict[NodeId, dict[Key, None]] = {}
        self._epochs = _Epochs(first - 1)
        self._topology: StoredTopology | None = None
        self._nodes: dict[NodeId, Node] = {}
        self._links: dict[NodeId, dict[RoomId, list[LinkStatus]]] = {}
        self._learned = LearnedRtts()
        self._log = _EventLog(max_events, first - 1)

    # --- atomic ---------------------------------------------------------------------------------

    async def admit(
        self, proposal: Assignment, *, replaces: int | None, event: str, now: float
    ) -> Admitted | Conflict:
        """See Store.admit."""
        live = self._live(proposal.room, proposal.participant)
        if live is not None and replaces is None and live.session == proposal.session:
            refreshed = replace(
                live,
                expires_at=max(live.expires_at, proposal.expires_at),
                rtts=proposal.rtts or live.rtts,
                network=proposal.network or live.network,
            )
            self._put(refreshed)
            return Admitted(refreshed, created=False)
        if (live.epoch if live else None) != replaces:
            return Conflict(live)
        epoch = self._epochs.next(_key(proposal), above=proposal.epoch)
        admitted = replace(proposal, epoch=epoch)
        self._put(admitted)
        self._log.append(event, _admission(event, admitted, live), now)
        return Admitted(admitted, created=True)

    async def end(
        self,
        room: RoomId,
        participant: ParticipantId,
        *,
        epoch: int | None,
        reason: str,
        now: float,
    ) -> Assignment | None:
        """See Store.end."""
        live = self._live(room, participant)
        if live is None or (epoch is not None and live.epoch != epoch):
            return None
        self._drop(live)
        self._epochs.left(_key(live))
        data = {"room": room, "participant": participant, "epoch": live.epoch, "reason": reason}
        self._log.append("participant.ended", data, now)
        return live

    async def put_topology(self, text: str, *, expect_version: int, now: float) -> int | None:
        """See Store.put_topology."""
        version = self._topology.version if self._topology else 0
        if version != expect_version:
            return None
        self._topology = StoredTopology(version + 1, text)
        self._log.append("topology.changed", {"version": version + 1}, now)
        return version + 1

    # --- consistent reads -----------------------------------------------------------------------

    async def topology(self) -> StoredTopology | None:
        """See Store.topology."""
        return self._topology

    async def room(self, room: RoomId) -> Room:
        """See Store.room."""
        return Room(room, MappingProxyType(dict(self._rooms.get(room, {}))))

    async def sums(self, room: RoomId) -> Sums:
        """See Store.sums."""
        return self._sums.get(room, NOBODY)

    async def rooms(self, *, after: RoomId | None, limit: int) -> Sequence[Room]:
        """See Store.rooms."""
        later = (room for room in self._rooms if after is None or room > after)
        return [await self.room(room) for room in nsmallest(limit, later)]

    async def totals(self) -> Totals:
        """See Store.totals."""
        return Totals(len(self._rooms), sum(map(len, self._rooms.values())), len(self._learned))

    async def assignment(self, room: RoomId, participant: ParticipantId) -> Assignment | None:
        """See Store.assignment."""
        return self._live(room, participant)

    async def last_epoch(self, room: RoomId, participant: ParticipantId) -> int:
        """See Store.last_epoch."""
        return self._epochs.last((room, participant))

    async def assignments_on(self, node: NodeId) -> Sequence[Assignment]:
        """See Store.assignments_on."""
        return [self._rooms[room][who] for room, who in self._on_node.get(node, {})]

    async def expired(self, *, now: float, limit: int) -> Sequence[Assignment]:
        """See Store.expired."""
        over = (
            one
            for people in self._rooms.values()
            for one in people.values()
            if one.expires_at <= now
        )
        return list(islice(over, limit))

    # --- hints ----------------------------------------------------------------------------------

    async def put_node(self, node: Node) -> None:
        """See Store.put_node."""
        self._nodes[node.id] = node

    async def drop_node(self, node: NodeId) -> None:
        """See Store.drop_node."""
        self._nodes.pop(node, None)
        self._links.pop(node, None)

    async def nodes(self) -> Mapping[NodeId, Node]:
        """See Store.nodes."""
        return MappingProxyType(dict(self._nodes))

    async def note_sessions(
        self,
        node: NodeId,
        seen: Mapping[Key, Assignment],
        *,
        now: float,  # noqa: ARG002  leases carry their own end; stores that expire keys need it
    ) -> None:
        """See Store.note_sessions."""
        for (room, participant), noted in seen.items():
            live = self._live(room, participant)
            if live is not None and live.epoch == noted.epoch and live.node == node:
                self._put(
                    replace(
                        live,
                        tracks=noted.tracks,
                        live=noted.live,
                        expires_at=noted.expires_at,
                        rtts=_with_measured(live.rtts, noted.rtts),
                    )
                )

    async def put_links(self, node: NodeId, links: Sequence[LinkStatus]) -> None:
        """See Store.put_links."""
        by_room: dict[RoomId, list[LinkStatus]] = {}
        for link in links:
            by_room.setdefault(link.room, []).append(link)
        self._links[node] = by_room

    async def links(self, room: RoomId) -> Sequence[LinkStatus]:
        """See Store.links."""
        return [link for node in sorted(self._links) for link in self._links[node].get(room, ())]

    async def learn(self, samples: Sequence[RttSample], *, now: float) -> None:
        """See Store.learn."""
        for one in samples:
            self._learned.note(one.network, one.region, one.rtt_ms, session=one.session, now=now)

    async def learned(self, network: str, *, now: float) -> Mapping[RegionId, RttEstimate]:
        """See Store.learned."""
        return self._learned.look(network, now=now)

    # --- events ---------------------------------------------------------------------------------

    async def append_event(self, type_: str, data: Mapping[str, object], *, now: float) -> Event:
        """See Store.append_event."""
        return self._log.append(type_, data, now)

    async def last_event_id(self) -> int:
        """See Store.last_event_id."""
        return self._log.last

    def events(self, *, after: int) -> AsyncIterator[Event]:
        """See Store.events."""
        return self._log.follow(after)

    # --- inside ---------------------------------------------------------------------------------

    def _live(self, room: RoomId, participant: ParticipantId) -> Assignment | None:
        return self._rooms.get(room, {}).get(participant)

    def _put(self, assignment: Assignment) -> None:
        key = _key(assignment)
        before = self._live(*key)
        if before is not None and before.node != assignment.node:
            self._drop(before)
            before = None
        self._rooms.setdefault(assignment.room, {})[assignment.participant] = assignment
        self._on_node.setdefault(assignment.node, {})[key] = None
        if before is None or _weight(before) != _weight(assignment):
            room = assignment.room
            self._sums[room] = adding(without(self._sums.get(room, NOBODY), before), assignment)

    def _drop(self, assignment: Assignment) -> None:
        room = assignment.room
        people = self._rooms[room]
        del people[assignment.participant]
        self._sums[room] = without(self._sums[room], assignment)
        if not people:
            del self._rooms[room], self._sums[room]
        here = self._on_node[assignment.node]
        del here[_key(assignment)]
        if not here:
            del self._on_node[assignment.node]


class _Epochs:
    """The highest epoch of everybody, without remembering everybody for ever.

    When the epoch of somebody who left is forgotten, all epochs given from then on to people without a memory begin
    above it. So epochs still only grow, whoever comes back.
    """

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._last: dict[Key, int] = {}
        self._left: OrderedDict[Key, None] = OrderedDict()

    def next(self, key: Key, *, above: int) -> int:
        """Return an epoch above every one that this participant had, and above `above`."""
        self._left.pop(key, None)
        self._last[key] = max(self._last.get(key, self._floor), above) + 1
        return self._last[key]

    def last(self, key: Key) -> int:
        """Return the highest epoch given, 0 for none remembered."""
        return self._last.get(key, 0)

    def left(self, key: Key) -> None:
        """Note that the participant is gone; the one who left first is forgotten when there are too many."""
        self._left[key] = None
        self._left.move_to_end(key)
        if len(self._left) > MAX_EPOCHS:
            oldest, _ = self._left.popitem(last=False)
            self._floor = max(self._floor, self._last.pop(oldest))


class _EventLog:
    """A ring of events with gapless ids, and readers that wait for the next one."""

    def __init__(self, size: int, last: int) -> None:
        self.last = last
        self._kept: deque[Event] = deque(maxlen=size)
        self._news = asyncio.Event()

    def append(self, type_: str, data: Mapping[str, object], now: float) -> Event:
        """Append an event and wake the readers."""
        self.last += 1
        event = Event(self.last, type_, now, MappingProxyType(dict(data)))
        self._kept.append(event)
        self._news.set()
        self._news = asyncio.Event()
        return event

    async def follow(self, after: int) -> AsyncIterator[Event]:
        """Yield events above `after`, for ever; first `stream.reset` when some of them are gone."""
        while True:
            oldest = self.last - len(self._kept) + 1
            if not oldest - 1 <= after <= self.last:
                # Too far behind, or from a log that began anew: the ids mean nothing here.
                at = self._kept[0].at if self._kept else 0.0
                yield Event(oldest - 1, "stream.reset", at, {"oldest": oldest})
                after = oldest - 1
                continue
            if after == self.last:
                await self._news.wait()
                continue
            # A copy of one batch: the ring may turn while the reader is away with an event.
            for event in list(islice(self._kept, after + 1 - oldest, after + 101 - oldest)):
                yield event
                after = event.id


def _with_measured(
    known: Mapping[RegionId, RttEstimate], noted: Mapping[RegionId, RttEstimate]
) -> Mapping[RegionId, RttEstimate]:
    """Return `known` with those of `noted` that were measured in the call."""
    if noted is known:
        return known
    measured = {region: rtt for region, rtt in noted.items() if rtt.source is RttSource.SESSION}
    return {**known, **measured}


def _weight(assignment: Assignment) -> tuple[Role, int]:
    """Return what an assignment counts for in its room's sums, beside its node."""
    return assignment.role, access_us(assignment)


def _key(assignment: Assignment) -> Key:
    return assignment.room, assignment.participant


def _admission(event: str, admitted: Assignment, before: Assignment | None) -> dict[str, object]:
    data: dict[str, object] = {
        "room": admitted.room,
        "participant": admitted.participant,
        "node": admitted.node,
        "region": admitted.region,
        "epoch": admitted.epoch,
    }
    if event == "participant.moved":
        data["from_node"] = before.node if before else None
        data["reason"] = next(iter(admitted.decision.because), "")
    else:
        data["because"] = list(admitted.decision.because)
    return data
