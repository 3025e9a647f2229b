"""People: admitted and ended in Redis by one script each, or alone while Redis is away; followed through the log.

Whatever way news takes, one rule settles it: the higher epoch stands, and of one epoch its end does. So it does not
matter in which order, how often or how late something comes, and two sides that were apart agree again once each has
told the other what it knows. Absence says nothing: only an end is one.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from controlplane.core.model import Assignment, NodeId, RegionId, RttEstimate
from controlplane.store.base import Admitted, Change, Conflict, Listener
from controlplane.store.packing import packed
from controlplane.store.reads import refreshed, with_report
from controlplane.store.redis import records
from controlplane.store.redis.commit import Away, Reply
from controlplane.store.redis.leases import Leases, ms, stored_lease
from controlplane.store.redis.names import LOG_LENGTH, partition_of
from controlplane.store.redis.outbox import Due, Part
from controlplane.store.redis.places import Places
from controlplane.store.redis.sender import Sender
from controlplane.store.redis.shard import Shard
from controlplane.store.view import Key, View, key_of

NEWS_MS = 3.0
"""Round trips that changed by less are the same: it would make no move worth its gap."""

OWN_SLOTS = 16
"""Below it, the last ten bits of an epoch are Redis' generation modulo this; from it on they say which replica made the
epoch alone. So no two ever make the same."""

LATE = "ended before, as another replica knew"

FAILOVER_S = 30.0
"""What a generation adds to epochs; lua/common.lua has the same."""

IN_FLIGHT_S = 1.0
"""So long after it was called Redis may do something: one that stood still finds in its sockets what was given up.
What a replica decides alone is above it."""

BEHIND = b"behind"
"""The answer of admit.lua to who has not read how many places are left."""

READ_TRIES = 3
"""One is mostly enough: what comes in meanwhile for the same last places is decided anew."""

log = structlog.get_logger(__name__)

Rtts = Mapping[RegionId, RttEstimate]


class Seats:
    """Assignments, their way into Redis and out of it."""

    def __init__(
        self,
        view: View,
        shards: Sequence[Shard],
        origin: str,
        places: Places,
        *,
        slot: Callable[[], int],
    ) -> None:
        """`slot` returns this replica's own number, for epochs that it makes alone."""
        self._view = view
        self._shards = shards
        self._origin = origin
        self._places = places
        self._leases = Leases()
        self._senders = [Sender(shard, view, self._leases, origin, self) for shard in shards]
        self._slot = slot
        self.listeners: list[Listener] = []
        self.unreadable = 0

    def __len__(self) -> int:
        """Return how many people Redis does not know everything about."""
        return sum(map(len, self._senders))

    def rejoined(self, partition: int) -> None:
        """Send what waits."""
        if self._shards[partition].loaded.is_set():
            self._places.rejoined(partition)
        self._senders[partition].rejoined()

    def work(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what runs as long as the store is open."""
        return [one.run() for one in self._senders]

    # --- atomic ---------------------------------------------------------------------------------

    async def admit(
        self, proposal: Assignment, *, replaces: int | None, event: str, now: float
    ) -> Admitted | Conflict:
        """See Store.admit."""
        key = key_of(proposal)
        wanted, shard = packed(proposal), self._shard(key)
        for _ in range(READ_TRIES):
            settled = self._settled(proposal, replaces, now)
            if settled is not None:
                return settled
            await self._sender(key).send_first(key)
            # No turn of the loop between this and the call, which says up to where the log has been read for it.
            is_apart = shard.is_apart
            spare = (self._places.spare_alone if is_apart else self._places.spare)(proposal, now)
            if spare is not None and spare < 0:
                return Conflict(self._view.live(key), full=proposal.node)
            before, until_ms = self._view.live(key), self._until_ms(shard)
            try:
                reply = await self._call_admit(
                    wanted, replaces, event, before, now, spare, until_ms
                )
            except Away:
                # Others may have been faster in the meantime.
                settled = self._settled(proposal, replaces, now)
                return settled or self._admit_alone(wanted, event, before, now, until_ms)
            first = reply.values[0]
            if first != BEHIND:
                if first and is_apart:
                    self._places.gave_alone(shard.partition, wanted)
                return self._admitted(reply, wanted, replaces, now)
            await shard.read_again()
        return Conflict(self._view.live(key))

    def _admitted(
        self, reply: Reply, wanted: Assignment, replaces: int | None, now: float
    ) -> Admitted | Conflict:
        key = key_of(wanted)
        first, *rest = reply.values
        if first:
            admitted = replace(wanted, epoch=int(first))
            if admitted.epoch > self._view.last_epoch(key):
                self._put(admitted, lease=self._shard(key).clock.to_local(int(rest[0])))
            return Admitted(admitted, created=True, degraded=not reply.safe)
        if not rest[0]:
            self.take_end(key, int(rest[1]), own=False)
        elif records.parse(rest[0]).epoch > self._view.last_epoch(key):
            self.take(key, rest[0], own=False)
        return self._settled(wanted, replaces, now) or Conflict(self._view.live(key))

    async def end(
        self, key: Key, *, epoch: int | None, reason: str, now: float, if_expired: bool
    ) -> Assignment | None:
        """See Store.end."""
        live = self._view.live(key)
        if epoch is not None and epoch < self._view.last_epoch(key):
            return None
        shard = self._shard(key)
        try:
            await self._sender(key).send_first(key)
            reply = await shard.call(
                "end", shard.names.of(key), self._origin, *key,
                "" if epoch is None else epoch, int(if_expired), reason, repr(now), LOG_LENGTH,
                self._until_ms(shard),
            )  # fmt: skip
        except Away:
            return self._end_alone(key, epoch, reason, now, if_expired=if_expired)
        what, found = reply.values
        if what == b"ended":
            header = records.parse(found)
            live = self._view.live(key)
            if live is None or live.epoch != header.epoch:
                live = self._decoded(key, header)
            self._ended(key, header.epoch)
            return live
        if what in {b"other", b"alive"}:
            self.take(key, found, own=False)
            return None
        if live is not None and int(found) < live.epoch:
            # Redis lost it: that it ended has to be known there all the same.
            return self._end_alone(key, epoch, reason, now, if_expired=if_expired)
        self.take_end(key, int(found), own=False)
        return None

    def _call_admit(
        self,
        wanted: Assignment,
        replaces: int | None,
        event: str,
        before: Assignment | None,
        now: float,
        spare: int | None,
        until_ms: int,
    ) -> Awaitable[Reply]:
        key = key_of(wanted)
        shard = self._shard(key)
        return shard.call(
            "admit", (*shard.names.of(key), shard.names.to(wanted.node)), self._origin, *key,
            "" if replaces is None else replaces,
            max(wanted.epoch, self._view.last_epoch(key)),
            wanted.session, ms(stored_lease(wanted, now)), shard.generation,
            *records.encode(wanted), event, repr(now), before.node if before else "", LOG_LENGTH,
            shard.born, "" if spare is None else spare, shard.log_number, until_ms,
        )  # fmt: skip

    def _until_ms(self, shard: Shard) -> int:
        """Return until when, by Redis' clock, what is called now may be done."""
        return shard.clock.redis_ms() + ms(IN_FLIGHT_S)

    def _settled(
        self, proposal: Assignment, replaces: int | None, now: float
    ) -> Admitted | Conflict | None:
        """Return what needs no decision of Redis: a repeated join, and a caller who looked too long ago."""
        live = self._view.live(key_of(proposal))
        if live is not None and replaces is None and live.session == proposal.session:
            return self._again(live, proposal, now)
        return None if (live.epoch if live else None) == replaces else Conflict(live)

    def _again(self, live: Assignment, proposal: Assignment, now: float) -> Admitted:
        """Push the lease of a session that joins again, at once here and by and by in Redis."""
        key = key_of(live)
        news = bool(proposal.rtts) and _is_news(live.rtts, proposal.rtts)
        news = news or proposal.network not in {"", live.network}
        after = refreshed(live, proposal if news else replace(proposal, rtts={}))
        self._view.put(after)
        if news or self._leases.is_short(key, after, now):
            self._sender(key).add(key, Due(Part.CLIENT if news else Part.NONE))
        return Admitted(after, created=False, degraded=not self._shard(key).is_up)

    # --- alone ----------------------------------------------------------------------------------

    def _admit_alone(
        self, wanted: Assignment, event: str, before: Assignment | None, now: float, until_ms: int
    ) -> Admitted | Conflict:
        key = key_of(wanted)
        spare, shard = self._places.spare_alone(wanted, now), self._shard(key)
        if spare is not None and spare < 0:
            return Conflict(before, full=wanted.node)
        if shard.is_apart:
            self._places.gave_alone(shard.partition, wanted)
        admitted = replace(wanted, epoch=self._own_epoch(key, wanted.epoch, until_ms))
        self._put(admitted, lease=0.0)
        from_node = before.node if before else ""
        self._sender(key).add(key, Due(Part.ALL, event=event, at=now, from_node=from_node))
        return Admitted(admitted, created=True, degraded=True)

    def _own_epoch(self, key: Key, floor: int, until_ms: int) -> int:
        """Return an epoch above all that this replica knows of, and above what Redis may give until then."""
        ahead = ms(FAILOVER_S * self._shard(key).generation)
        above = max(self._view.last_epoch(key), floor)
        return max(until_ms + ahead, (above >> 10) + 1) << 10 | self._slot()

    def _end_alone(
        self, key: Key, epoch: int | None, reason: str, now: float, *, if_expired: bool
    ) -> Assignment | None:
        live = self._view.live(key)
        if live is None or (epoch is not None and epoch != live.epoch):
            return None
        if if_expired and live.expires_at > now:
            return None
        self._ended(key, live.epoch)
        self._sender(key).add(key, Due(ended=live.epoch, reason=reason, at=now))
        return live

    # --- hints ----------------------------------------------------------------------------------

    def note(self, node: NodeId, seen: Mapping[Key, Assignment], *, now: float) -> None:
        """See Store.note_sessions: at once here; in Redis what is news, by and by."""
        for key, noted in seen.items():
            live = self._view.live(key)
            if live is None or live.epoch != noted.epoch or live.node != node:
                continue
            after = with_report(live, noted)
            if after.rtts is not live.rtts and not _is_news(live.rtts, after.rtts):
                after = replace(after, rtts=live.rtts)
            self._view.put(after)
            news = (
                after.live != live.live
                or after.tracks != live.tracks
                or after.rtts is not live.rtts
            )
            leases = self._leases
            if news or leases.is_long(key, after, now) or leases.is_short(key, after, now):
                self._sender(key).add(
                    key, Due(Part.NODE if news else Part.NONE, shorter=not after.live)
                )

    # --- from Redis -----------------------------------------------------------------------------

    def take(self, key: Key, record: bytes, *, own: bool) -> None:
        """Take in a record, unless more is known; `own` when this replica wrote it."""
        before, last = self._view.live(key), self._view.last_epoch(key)
        try:
            header = records.parse(record)
            if header.epoch <= last and not self._is_newer(key, header.epoch, own=own):
                return
            after = self._decoded(key, header)
        except records.RecordError as error:
            self.unreadable += 1
            log.warning("record that cannot be read", why=str(error))
            return
        if header.epoch > last:
            self._sender(key).outbox.drop(key)
        self._put(after, lease=after.expires_at)
        if not own:
            self._tell(before, after)

    def take_loaded(self, key: Key, record: bytes) -> int:
        """Take in a record while loading, and return its epoch; one that is known already costs little."""
        live = self._view.live(key)
        try:
            header = records.parse(record)
        except records.RecordError:
            self.take(key, record, own=False)
            return 0
        known = live is not None and live.epoch == header.epoch
        if live is not None and known and records.encode_node(live) == header.parts.node:
            self._leases.note(key, self._shard(key).clock.to_local(header.lease_ms))
        else:
            self.take(key, record, own=False)
        return header.epoch

    def _is_newer(self, key: Key, epoch: int, *, own: bool) -> bool:
        """Return whether a record of an epoch that is known says more; if it says less, Redis is told."""
        live = self._view.live(key)
        if live is not None and live.epoch == epoch:
            return self._sender(key).wants(key, own=own)
        if not own:
            # An old entry of the log, mostly. But a replica may have brought in what Redis had lost, not knowing more.
            self._repeat(key, ended=0 if live else self._view.last_epoch(key))
        return False

    def take_end(self, key: Key, epoch: int, *, own: bool) -> None:
        """Take in that everything up to an epoch has ended."""
        if epoch >= self._view.last_epoch(key):
            self._sender(key).outbox.drop(key)
            before = self._ended(key, epoch)
            if before is not None and not own:
                self._tell(before, None)

    def take_loaded_end(self, key: Key, epoch: int) -> None:
        """Take in the epoch of somebody who left."""
        self.take_end(key, epoch, own=False)

    def missing(self, partition: int, present: Mapping[Key, int], *, believe: bool) -> None:
        """Settle whom Redis does not have, or not so new; `believe` that they have ended.

        `present` are those whom it has, with their epochs. Redis may have lost the others, or may know their end: what
        this replica knows is brought in, and refused if it has ended.
        """
        for live in list(self._view):
            key = key_of(live)
            if len(self._shards) > 1 and partition_of(live.room, len(self._shards)) != partition:
                continue
            if present.get(key, 0) >= live.epoch or key in self._sender(key).outbox:
                continue
            if believe and key not in present:
                self.take_end(key, live.epoch, own=False)
            else:
                self._sender(key).add(key, Due(Part.ALL))
        for key, epoch in present.items():
            last = self._view.last_epoch(key)
            if self._view.live(key) is None and last >= epoch:
                self._repeat(key, ended=last)
        self._places.rejoined(partition)

    # --- inside ---------------------------------------------------------------------------------

    def _shard(self, key: Key) -> Shard:
        return self._shards[partition_of(key[0], len(self._shards))]

    def _sender(self, key: Key) -> Sender:
        return self._senders[partition_of(key[0], len(self._shards))]

    def _repeat(self, key: Key, *, ended: int) -> None:
        """Tell Redis again what it should know: that everything up to an epoch ended, or with 0 who is there."""
        self._sender(key).add(key, Due(ended=ended, reason=LATE, at=self._shard(key).clock.now()))

    def _put(self, assignment: Assignment, *, lease: float) -> None:
        self._view.put(assignment)
        self._leases.note(key_of(assignment), lease)

    def _ended(self, key: Key, epoch: int) -> Assignment | None:
        before = self._view.end(key, epoch)
        if self._view.live(key) is None:
            self._leases.forget(key)
        return before

    def _tell(self, before: Assignment | None, after: Assignment | None) -> None:
        for listener in self.listeners:
            listener(Change(before, after))

    def _decoded(self, key: Key, header: records.Header) -> Assignment:
        lease = self._shard(key).clock.to_local(header.lease_ms)
        return records.decode(header, *key, expires_at=lease)


def _is_news(known: Rtts, new: Rtts) -> bool:
    """Return whether round trips differ by what matters, or come from somewhere else."""
    if known is new:
        return False
    if known.keys() != new.keys():
        return True
    return any(
        abs(rtt.rtt_ms - known[region].rtt_ms) > NEWS_MS or rtt.source is not known[region].source
        for region, rtt in new.items()
    )
