"""The store of a single process: plain dictionaries.

No method awaits before it is done, so on one event loop each is atomic by itself. Everything is bounded: events by a
ring, the epochs of people who left by MAX_LEFT of view.py, learned round trips by MAX_PREFIXES of core/learned.py, join
tokens by MAX_JOIN_TOKENS, the rest by who is there.
"""

import asyncio
import hmac
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from types import MappingProxyType

from controlplane.core.learned import RttSample
from controlplane.core.model import (
    Assignment,
    Drain,
    Event,
    Node,
    NodeId,
    ParticipantId,
    Replica,
    RoomId,
)
from controlplane.core.session import LinkFigures, LinkReport
from controlplane.store.base import (
    MAX_JOIN_TOKENS,
    Admitted,
    Conflict,
    Listener,
    StoredTopology,
    StoreHealth,
    Totals,
    too_many_tokens,
)
from controlplane.store.packing import packed
from controlplane.store.reads import (
    Reads,
    admission,
    ending,
    refreshed,
    spare_places,
    with_report,
)
from controlplane.store.view import Key, key_of

MAX_EVENTS = 10_000
"""Kept for readers that come back: minutes of a busy system, a day of a quiet one, a few megabytes."""

REPLICA = "memory"
"""There is one, and it is nobody else."""


class MemoryStore(Reads):
    """Implements the Store protocol; see controlplane/store/base.py for the guarantees."""

    def __init__(self, *, first: int = 1, max_events: int = MAX_EVENTS) -> None:
        """Begin empty.

        `first` is the lowest epoch and the lowest event id that is ever given. Nodes and readers of events outlive
        this store and remember, so a process passes its starting time in milliseconds: its numbers are then above
        those of the process before it, and an event id from back then is one that is gone.
        """
        super().__init__()
        self._view.forgotten = first - 1
        self._log = _EventLog(max_events, first - 1)
        self._tokens: dict[str, tuple[str, str, float]] = {}
        self._self = Replica(REPLICA, 0.0)

    @property
    def replica(self) -> str:
        """See Store.replica."""
        return REPLICA

    # --- atomic ---------------------------------------------------------------------------------

    async def admit(
        self, proposal: Assignment, *, replaces: int | None, event: str, now: float
    ) -> Admitted | Conflict:
        """See Store.admit."""
        key = key_of(proposal)
        live = self._view.live(key)
        if live is not None and replaces is None and live.session == proposal.session:
            again = refreshed(live, proposal)
            self._view.put(again)
            return Admitted(again, created=False)
        if (live.epoch if live else None) != replaces:
            return Conflict(live)
        spare = spare_places(self._view, self._hints.nodes.get(proposal.node), proposal, now)
        if spare is not None and spare < 0:
            return Conflict(live, full=proposal.node)
        # When the epoch of somebody who left is forgotten, all others without a memory begin above it: epochs still
        # only grow, whoever comes back.
        last = self._view.last_epoch(key) or self._view.forgotten
        admitted = packed(replace(proposal, epoch=max(last, proposal.epoch) + 1))
        self._view.put(admitted)
        self._log.append(event, admission(event, admitted, live.node if live else None), now)
        return Admitted(admitted, created=True)

    async def end(
        self,
        room: RoomId,
        participant: ParticipantId,
        *,
        epoch: int | None,
        reason: str,
        now: float,
        if_expired: bool = False,
    ) -> Assignment | None:
        """See Store.end."""
        key = (room, participant)
        live = self._view.live(key)
        if live is None or (epoch is not None and live.epoch != epoch):
            return None
        if if_expired and live.expires_at > now:
            return None
        self._view.end(key, live.epoch)
        self._log.append("participant.ended", ending(key, live.epoch, reason), now)
        return live

    async def put_topology(self, text: str, *, expect_version: int, now: float) -> int | None:
        """See Store.put_topology."""
        stored = self._hints.topology
        version = stored.version if stored else 0
        if version != expect_version:
            return None
        self._hints.topology = StoredTopology(version + 1, text)
        self._log.append("topology.changed", {"version": version + 1}, now)
        return version + 1

    async def put_join_token(
        self, id_: str, digest: str, data: str, *, ttl_s: float, now: float
    ) -> None:
        """See Store.put_join_token."""
        self._tokens = {id_: kept for id_, kept in self._tokens.items() if kept[2] > now}
        if len(self._tokens) >= MAX_JOIN_TOKENS and id_ not in self._tokens:
            raise too_many_tokens()
        self._tokens[id_] = (digest, data, now + ttl_s)

    async def take_join_token(self, id_: str, digest: str, *, now: float) -> str | None:
        """See Store.take_join_token."""
        kept = self._tokens.get(id_)
        if kept is None or kept[2] <= now or not hmac.compare_digest(kept[0], digest):
            return None
        del self._tokens[id_]
        return kept[1]

    # --- reads ----------------------------------------------------------------------------------

    async def totals(self) -> Totals:
        """See Store.totals."""
        view, hints = self._view, self._hints
        return Totals(view.room_count, len(view), len(hints.learned), self._log.count)

    async def put_drain(self, node: NodeId, drain: Drain) -> None:
        """See Store.put_drain."""
        self._hints.drains[node] = drain

    async def drop_drain(self, node: NodeId) -> None:
        """See Store.drop_drain."""
        self._hints.drains.pop(node, None)

    # --- replicas -------------------------------------------------------------------------------

    async def announce(self, target: str, *, now: float) -> None:
        """See Store.announce."""
        self._self = Replica(REPLICA, now, target)

    async def replicas(self) -> Mapping[str, Replica]:
        """See Store.replicas."""
        return {REPLICA: self._self}

    def watch(self, listener: Listener) -> None:
        """See Store.watch; there is no other replica, so the listener is never called."""

    async def health(self) -> StoreHealth:
        """See Store.health."""
        return StoreHealth("normal", 0.0)

    # --- hints ----------------------------------------------------------------------------------

    async def put_node(self, node: Node) -> None:
        """See Store.put_node."""
        self._hints.put_node(node)

    async def drop_node(self, node: NodeId) -> None:
        """See Store.drop_node."""
        self._hints.drop_node(node)

    async def note_sessions(
        self,
        node: NodeId,
        seen: Mapping[Key, Assignment],
        *,
        now: float,  # noqa: ARG002  leases carry their own end; a shared store has a clock of its own
    ) -> None:
        """See Store.note_sessions."""
        for key, noted in seen.items():
            live = self._view.live(key)
            if live is not None and live.epoch == noted.epoch and live.node == node:
                self._view.put(with_report(live, noted))

    async def put_links(
        self, node: NodeId, links: Sequence[LinkReport], figures: LinkFigures
    ) -> None:
        """See Store.put_links."""
        self._hints.links.say(node, links, figures)

    async def learn(self, samples: Sequence[RttSample], *, now: float) -> None:
        """See Store.learn."""
        for one in samples:
            self._hints.learned.note(
                one.network, one.region, one.rtt_ms, session=one.session, now=now
            )

    # --- events ---------------------------------------------------------------------------------

    async def append_event(self, type_: str, data: Mapping[str, object], *, now: float) -> None:
        """See Store.append_event."""
        self._log.append(type_, data, now)

    async def last_event_id(self) -> str:
        """See Store.last_event_id."""
        return str(self._log.last)

    def events(self, *, after: str) -> AsyncIterator[Event]:
        """See Store.events; ids are decimal numbers that grow by one."""
        return self._log.follow(after)


class _EventLog:
    """A ring of events with gapless ids, and readers that wait for the next one."""

    def __init__(self, size: int, last: int) -> None:
        self._first = last
        self.last = last
        self._kept: deque[Event] = deque(maxlen=size)
        self._news = asyncio.Event()

    @property
    def count(self) -> int:
        """How many there ever were."""
        return self.last - self._first

    def append(self, type_: str, data: Mapping[str, object], now: float) -> None:
        """Append an event and wake the readers."""
        self.last += 1
        self._kept.append(Event(str(self.last), type_, now, MappingProxyType(dict(data))))
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, id_: str) -> AsyncIterator[Event]:
        """Yield events behind the one with this id, for ever; first `stream.reset` when some of them are gone."""
        after = _number(id_) if id_ else self._oldest - 1
        while True:
            oldest = self._oldest
            if not oldest - 1 <= after <= self.last:
                # Too far behind, or from a log that began anew: the ids mean nothing here.
                at = self._kept[0].at if self._kept else 0.0
                yield Event(str(oldest - 1), "stream.reset", at, {"oldest": str(oldest)})
                after = oldest - 1
                continue
            if after == self.last:
                await self._news.wait()
                continue
            # A copy of one batch: the ring may turn while the reader is away with an event.
            for event in list(islice(self._kept, after + 1 - oldest, after + 101 - oldest)):
                yield event
                after += 1

    @property
    def _oldest(self) -> int:
        return self.last - len(self._kept) + 1


def _number(id_: str) -> int:
    """Return the number that an id is, -1 for what is none."""
    return int(id_) if id_.isascii() and id_.isdigit() and len(id_) <= 18 else -1
