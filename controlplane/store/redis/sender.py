"""Brings what is due of one partition into Redis, as soon as there is a way."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

from controlplane.core.model import Assignment
from controlplane.store.redis import records
from controlplane.store.redis.commit import Away, Reply
from controlplane.store.redis.leases import Leases, ms, stored_lease
from controlplane.store.redis.names import LOG_LENGTH
from controlplane.store.redis.outbox import Due, Outbox, Part
from controlplane.store.redis.shard import Shard
from controlplane.store.view import Key, View, key_of

AT_ONCE = 256
"""Due changes that are sent together."""

PAUSE_S = 0.05
"""After none of them could be sent: as many calls wait as may, or the way was lost just now."""


class Taker(Protocol):
    """Who takes in what Redis knows better."""

    def take(self, key: Key, record: bytes, *, own: bool) -> None:
        """Take in a record, unless more is known; `own` when this replica wrote it."""
        ...

    def take_end(self, key: Key, epoch: int, *, own: bool) -> None:
        """Take in that everything up to an epoch has ended."""
        ...


class Sender:
    """See the module's docstring."""

    def __init__(self, shard: Shard, view: View, leases: Leases, origin: str, taker: Taker) -> None:
        self.outbox = Outbox()
        self._shard = shard
        self._view = view
        self._leases = leases
        self._origin = origin
        self._taker = taker
        self._wake = asyncio.Event()
        self._on_the_way: Counter[Key] = Counter()
        """How many calls of each have no answer yet."""
        self._behind: set[Key] = set()
        """Of whom a record was passed over because the next one of this replica's own has it, too."""

    def __len__(self) -> int:
        """Return of how many people Redis does not know everything yet."""
        return len(self.outbox) + len(self._on_the_way)

    def add(self, key: Key, due: Due) -> None:
        """Note that something is due."""
        self.outbox.add(key, due)
        self._wake.set()

    def rejoined(self) -> None:
        """Send what waits."""
        self._behind.clear()
        self._wake.set()

    def wants(self, key: Key, *, own: bool) -> bool:
        """Return whether a record of the epoch that is known is news.

        While something of it is due or on its way, the record without that is older. What others wrote into it comes
        with what this replica wrote itself, a moment later.
        """
        if key in self.outbox or key in self._on_the_way:
            self._behind.add(key)
            return False
        if own and key not in self._behind:
            return False
        self._behind.discard(key)
        return True

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while len(self.outbox) and self._shard.is_up:
                due = self.outbox.take(AT_ONCE)
                if not any(await asyncio.gather(*[self._send(*one) for one in due])):
                    await asyncio.sleep(PAUSE_S)

    async def send_first(self, key: Key) -> None:
        """Send what is due of somebody whom a script is going to judge."""
        due = self.outbox.pop(key) if self._shard.is_up else None
        if due is not None:
            await self._send(key, due)

    def _send(self, key: Key, due: Due) -> Coroutine[Any, Any, bool]:
        """Call now, so that whatever is called later comes behind it; return what waits for the answer.

        That returns False when there was none.
        """
        now, live = self._shard.clock.now(), self._view.live(key)
        lease = stored_lease(live, now) if live else 0.0
        call = self._push_end(key, due) if due.ended else self._push(live, due, lease)
        self._on_the_way[key] += 1
        return self._answered(key, due, call, lease_until=now + lease)

    def _push_end(self, key: Key, due: Due) -> Awaitable[Reply]:
        return self._shard.call(
            "push_end", self._shard.names.of(key), self._origin, *key,
            due.ended, due.reason, repr(due.at), LOG_LENGTH,
        )  # fmt: skip

    def _push(self, live: Assignment | None, due: Due, lease: float) -> Awaitable[Reply] | None:
        """Return the call, None for somebody who has gone meanwhile: that is told in another way."""
        if live is None:
            return None
        key, names = key_of(live), self._shard.names
        return self._shard.call(
            "push", (*names.of(key), names.to(live.node)), self._origin, *key,
            live.epoch, live.session, ms(lease), int(due.shorter), *_parts(live, due.parts),
            due.event, repr(due.at), due.from_node, LOG_LENGTH,
        )  # fmt: skip

    async def _answered(
        self, key: Key, due: Due, call: Awaitable[Reply] | None, *, lease_until: float
    ) -> bool:
        try:
            what, *rest = (await call).values if call else (b"",)
        except (Away, asyncio.CancelledError) as error:
            self.outbox.put_back(key, due)
            self._wake.set()
            if not isinstance(error, Away):
                raise
            return False
        finally:
            self._on_the_way[key] -= 1
            if not self._on_the_way[key]:
                del self._on_the_way[key]
        if what == b"newer":
            self._taker.take(key, rest[0], own=False)
        elif what == b"gone":
            self._taker.take_end(key, int(rest[0]), own=False)
        elif what == b"missing":
            self.add(key, Due(Part.ALL))
        elif what == b"ok" and not due.ended and self._view.live(key) is not None:
            self._leases.note(key, lease_until)
        return True


def _parts(live: Assignment, wanted: Part) -> tuple[bytes, bytes, bytes]:
    """Return the parts to write; empty for one that stays as it is, "-" for a node's part with nothing in it."""
    static = records.encode(live).static if Part.STATIC in wanted else b""
    client = records.encode_client(live) if Part.CLIENT in wanted else b""
    node = (records.encode_node(live) or b"-") if Part.NODE in wanted else b""
    return static, client, node
