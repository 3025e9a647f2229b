"""The store that replicas share: every replica holds all of it in memory, and follows the others through Redis.

Reads never leave the process. A change is one script in Redis, which compares what the caller saw with what is true;
so what was decided on an old view loses there, and everybody hears of what won from the log that the same script
writes. With Redis away a replica goes on from its view, with epochs of its own, and says so: `degraded`. When Redis is
back, whichever it is by then and whatever it lost, both sides tell each other what they know (seats.py has the rule).

shard.py keeps the way to each partition's master, seats.py the people, fleet.py everything else.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

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
from controlplane.errors import UnavailableError
from controlplane.store.base import Admitted, Conflict, Listener, StoreHealth, Totals
from controlplane.store.reads import Reads, admission, ending
from controlplane.store.redis import records
from controlplane.store.redis.clock import RedisClock
from controlplane.store.redis.commit import Away
from controlplane.store.redis.connect import FAILURES, Connector
from controlplane.store.redis.event_log import EventLog, Fields, Place
from controlplane.store.redis.fleet import Fleet
from controlplane.store.redis.load import load_log, load_people
from controlplane.store.redis.names import FLEET, LOG_LENGTH, partition_of
from controlplane.store.redis.places import Places
from controlplane.store.redis.scripts import Scripts
from controlplane.store.redis.seats import Seats
from controlplane.store.redis.shard import Shard
from controlplane.store.view import Key

OPEN_TIMEOUT_S = 60.0
"""How long Redis may take at the start, with hundreds of thousands of people to load; a replica without a view must not
serve."""

ABSENT_S = 840.0
"""A replica that was away for longer no longer knows better than Redis who is gone: ends are kept a minute longer."""

MAX_WAITING_EVENTS = 1000
"""Events of no assignment that wait for Redis; the oldest of more is dropped."""

EVENTS_RETRY_S = 0.25


class RedisStore(Reads):
    """Implements the Store protocol; see controlplane/store/base.py for the guarantees."""

    def __init__(
        self, connector: Connector, scripts: Scripts, *, replica: str, now: Callable[[], float]
    ) -> None:
        """Begin without anything; `opened` connects. `now` returns seconds since 1970."""
        super().__init__()
        self._replica = replica
        self._connector = connector
        self._shards = [
            Shard(number, connector, scripts, RedisClock(now), self)
            for number in range(connector.partitions)
        ]
        self._clock = self._shards[FLEET].clock
        self._fleet = fleet = Fleet(self._hints, self._shards[FLEET], replica)
        places = Places(
            self._view,
            self._hints.nodes,
            replica,
            connector.partitions,
            replicas=lambda: len(fleet.replicas),
        )
        self._seats = Seats(self._view, self._shards, replica, places, slot=lambda: fleet.slot)
        self._log = EventLog(len(self._shards), self._event, self._clock.redis_ms)
        self._events_due: deque[tuple[int, str, float, Mapping[str, object]]] = deque(
            maxlen=MAX_WAITING_EVENTS
        )
        self._begun: set[int] = set()
        self._mode_since = now()
        self._was_normal = True

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        connector: Connector,
        *,
        replica: str,
        now: Callable[[], float],
        scripts: Scripts | None = None,
    ) -> AsyncIterator["RedisStore"]:
        """Connect, load, and follow until the end of the block.

        Raises UnavailableError ("state-unavailable") when Redis cannot be reached, or not loaded in OPEN_TIMEOUT_S.
        """
        if scripts is None:
            scripts = await asyncio.to_thread(Scripts.load)
        store = cls(connector, scripts, replica=replica, now=now)
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in store._work()]
                try:
                    await store._loaded()
                    yield store
                except Exception as error:  # noqa: BLE001  raised again below, as itself and not in a group
                    failure = error
                for task in tasks:
                    task.cancel()
        finally:
            await connector.close()
        if failure is not None:
            raise failure

    @property
    def replica(self) -> str:
        """See Store.replica."""
        return self._replica

    # --- atomic ---------------------------------------------------------------------------------

    async def admit(
        self, proposal: Assignment, *, replaces: int | None, event: str, now: float
    ) -> Admitted | Conflict:
        """See Store.admit."""
        return await self._seats.admit(proposal, replaces=replaces, event=event, now=now)

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
        return await self._seats.end(
            (room, participant), epoch=epoch, reason=reason, now=now, if_expired=if_expired
        )

    async def put_topology(self, text: str, *, expect_version: int, now: float) -> int | None:
        """See Store.put_topology."""
        return await self._fleet.put_topology(text, expect_version=expect_version, now=now)

    async def put_join_token(
        self,
        id_: str,
        digest: str,
        data: str,
        *,
        ttl_s: float,
        now: float,  # noqa: ARG002  Redis' clock counts
    ) -> None:
        """See Store.put_join_token."""
        await self._fleet.put_token(id_, digest, data, ttl_s=ttl_s)

    async def take_join_token(self, id_: str, digest: str, *, now: float) -> str | None:  # noqa: ARG002
        """See Store.take_join_token."""
        return await self._fleet.take_token(id_, digest)

    # --- reads ----------------------------------------------------------------------------------

    async def totals(self) -> Totals:
        """See Store.totals."""
        view, hints = self._view, self._hints
        return Totals(view.room_count, len(view), len(hints.learned), self._log.count)

    async def put_drain(self, node: NodeId, drain: Drain) -> None:
        """See Store.put_drain."""
        await self._fleet.put_drain(node, drain)

    async def drop_drain(self, node: NodeId) -> None:
        """See Store.drop_drain."""
        await self._fleet.put_drain(node, None)

    # --- replicas -------------------------------------------------------------------------------

    async def announce(self, target: str, *, now: float) -> None:  # noqa: ARG002  Redis' clock counts
        """See Store.announce."""
        await self._fleet.announce(target)

    async def replicas(self) -> Mapping[str, Replica]:
        """See Store.replicas; while Redis is away, those who were alive when it went."""
        return MappingProxyType(self._fleet.replicas)

    def watch(self, listener: Listener) -> None:
        """See Store.watch."""
        self._seats.listeners.append(listener)

    async def health(self) -> StoreHealth:
        """See Store.health."""
        down = [shard for shard in self._shards if not shard.is_up]
        why = ""
        if down:
            why = f"Redis is out of reach: {down[0].committer.why}"
            if len(self._shards) > 1:
                why = f"{len(down)} of {len(self._shards)} partitions: {why}"
        elif any(shard.committer.unsafe for shard in self._shards):
            why = "no replica of Redis confirms what is written"
        if self._was_normal == bool(why):
            self._was_normal, self._mode_since = not why, self._clock.now()
        pending = len(self._seats) + len(self._events_due)
        return StoreHealth("degraded" if why else "normal", self._mode_since, why, pending)

    # --- hints ----------------------------------------------------------------------------------

    async def put_node(self, node: Node) -> None:
        """See Store.put_node."""
        self._fleet.put_node(node)

    async def drop_node(self, node: NodeId) -> None:
        """See Store.drop_node."""
        self._fleet.drop_node(node)

    async def note_sessions(
        self, node: NodeId, seen: Mapping[Key, Assignment], *, now: float
    ) -> None:
        """See Store.note_sessions."""
        self._seats.note(node, seen, now=now)

    async def put_links(
        self, node: NodeId, links: Sequence[LinkReport], figures: LinkFigures
    ) -> None:
        """See Store.put_links."""
        self._fleet.put_links(node, links, figures)

    async def learn(self, samples: Sequence[RttSample], *, now: float) -> None:
        """See Store.learn."""
        self._fleet.learn(samples, now=now)

    # --- events ---------------------------------------------------------------------------------

    async def append_event(self, type_: str, data: Mapping[str, object], *, now: float) -> None:
        """See Store.append_event; without Redis it waits, and is told when Redis is back."""
        room = str(data.get("room", ""))
        due = (partition_of(RoomId(room), len(self._shards)) if room else FLEET, type_, now, data)
        try:
            await self._append(*due)
        except Away:
            self._events_due.append(due)

    async def last_event_id(self) -> str:
        """See Store.last_event_id."""
        return self._log.last_id

    def events(self, *, after: str) -> AsyncIterator[Event]:
        """See Store.events."""
        return self._log.follow(after)

    # --- from Redis -----------------------------------------------------------------------------

    async def begin(self, partition: int, place: Place) -> None:
        """See Sink.begin: what was told before is read once, at the start."""
        if partition in self._begun:
            self._log.restart(partition, place)
            return
        shard = self._shards[partition]
        behind, entries = await load_log(shard.client, shard.names, place)
        self._log.restart(partition, behind)
        for at, fields in entries:
            self._told(partition, at, fields)
        self._begun.add(partition)

    def changed(self, partition: int, place: Place, fields: Fields) -> None:
        """See Sink.changed."""
        if b"r" in fields:
            key = (RoomId(fields[b"r"].decode()), ParticipantId(fields[b"p"].decode()))
            own = fields[b"o"].decode() == self._replica
            if b"v" in fields:
                self._seats.take(key, fields[b"v"], own=own)
            else:
                self._seats.take_end(key, int(fields[b"e"]), own=own)
        self._told(partition, place, fields)

    def hinted(self, fields: Fields) -> None:
        """See Sink.hinted."""
        self._fleet.take(fields)

    def taught(self, fields: Fields) -> None:
        """See Sink.taught."""
        self._fleet.take_samples(fields)

    async def load(self, partition: int, *, same_data: bool, away_s: float) -> None:
        """See Sink.load."""
        shard = self._shards[partition]
        if partition == FLEET:
            await self._fleet.load(same_data=same_data)
        seats = self._seats
        present = await load_people(
            shard.client, shard.names, seats.take_loaded, seats.take_loaded_end
        )
        believe = same_data and away_s > ABSENT_S
        self._seats.missing(partition, present, believe=believe)

    def rejoined(self, partition: int) -> None:
        """See Sink.rejoined."""
        self._seats.rejoined(partition)
        if partition == FLEET:
            self._fleet.rejoined()

    def _told(self, partition: int, place: Place, fields: Fields) -> None:
        if b"t" in fields:
            self._log.append(partition, place, fields)
        else:
            self._log.saw(partition, place)

    def _event(self, id_: str, fields: Fields) -> Event:
        """Return the event that an entry is."""
        type_, at = fields[b"t"].decode(), float(fields[b"a"])
        data: Mapping[str, object]
        if b"r" not in fields:
            data = json.loads(fields[b"j"])
        elif b"e" in fields:
            key = (RoomId(fields[b"r"].decode()), ParticipantId(fields[b"p"].decode()))
            data = ending(key, int(fields[b"e"]), fields[b"d"].decode())
        else:
            data = self._admission(type_, fields)
        return Event(id_, type_, at, MappingProxyType(data))

    def _admission(self, type_: str, fields: Fields) -> dict[str, object]:
        room, who = RoomId(fields[b"r"].decode()), ParticipantId(fields[b"p"].decode())
        header = records.parse(fields[b"v"])
        try:
            admitted = records.decode(header, room, who, expires_at=0.0)
        except records.RecordError:
            # Of a newer release; the reader looks it up there.
            return {"room": room, "participant": who, "epoch": header.epoch}
        return admission(type_, admitted, fields[b"f"].decode() or None)

    # --- inside ---------------------------------------------------------------------------------

    def _work(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what runs as long as the store is open."""
        return (
            *(shard.run() for shard in self._shards),
            *self._seats.work(),
            self._fleet.send(),
            self._fleet.beat_on(),
            self._append_due(),
        )

    async def _loaded(self) -> None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                for shard in self._shards:
                    await shard.loaded.wait()
                await self._fleet.beat()
                await self._fleet.load_samples()
        except (TimeoutError, Away, *FAILURES) as error:
            why = next((one.committer.why for one in self._shards if not one.is_up), str(error))
            raise UnavailableError(
                "state-unavailable",
                f"Redis could not be reached or read within {OPEN_TIMEOUT_S:.0f} s: {why}",
                "A replica begins with the state that all share: start Redis first.",
            ) from error

    async def _append(
        self, partition: int, type_: str, now: float, data: Mapping[str, object]
    ) -> None:
        shard = self._shards[partition]
        keys = (shard.names.log, shard.names.meta)
        text = json.dumps(dict(data))
        await shard.call("event", keys, self._replica, type_, repr(now), text, LOG_LENGTH)

    async def _append_due(self) -> None:
        """Tell the events that waited for Redis, in their order, for ever."""
        while True:
            await asyncio.sleep(EVENTS_RETRY_S)
            while self._events_due:
                due = self._events_due.popleft()
                try:
                    await self._append(*due)
                except Away:
                    self._events_due.appendleft(due)
                    break
