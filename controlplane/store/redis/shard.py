"""One partition: the way to its master, kept up or tried again, and its logs, read at a fixed rhythm.

A call that fails or takes too long gives the way up at once, so that the next one does not wait, too; it is tried again
every PROBE_S. Reading needs no wake-up and no subscription: what there is to know is read 40 times a second, whether
anything happened or not, and the numbers of the entries say when something was missed.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from controlplane.store.redis.clock import RedisClock
from controlplane.store.redis.commit import Away, Committer, stop_if_cancelled
from controlplane.store.redis.connect import (
    CONNECT_TIMEOUT_S,
    FAILURES,
    OPERATION_TIMEOUT_S,
    Connector,
    Link,
)
from controlplane.store.redis.event_log import Fields, Place, parse_place
from controlplane.store.redis.names import FLEET, Names
from controlplane.store.redis.patience import time_limit
from controlplane.store.redis.scripts import Scripts

PROBE_S = 0.25
"""How often a lost server is tried."""

POLL_S = 0.025
"""How often logs are read: a change reaches the other replicas within this and a round trip."""

REPLICAS_S = 1.0
"""How often a master without a replica is asked whether it has one (after a fail-over in a cluster the old master comes
back as that, and nobody connects anew), and one whose replica does not confirm whether it does again."""

MANY = 4
"""Partitions beyond which reading all of them 40 times a second would cost a tenth of a core."""

READ_AT_ONCE = 500
"""Entries of one log in one read: half a megabyte."""

log = structlog.get_logger(__name__)


class Gap(Exception):  # noqa: N818  what was read last is not what comes next: load anew
    """Entries of a log are missing."""


class Sink(Protocol):
    """Who takes in what is read."""

    async def begin(self, partition: int, place: Place) -> None:
        """Begin to read a partition's log behind a place."""
        ...

    def changed(self, partition: int, place: Place, fields: Fields) -> None:
        """Take in an entry of a partition's log."""
        ...

    def hinted(self, fields: Fields) -> None:
        """Take in an entry of the fleet's log."""
        ...

    def taught(self, fields: Fields) -> None:
        """Take in an entry of the learned log."""
        ...

    async def load(self, partition: int, *, same_data: bool, away_s: float) -> None:
        """Bring what Redis has and what this replica knows together, after `away_s` seconds apart.

        `same_data` says that it is the data set of before. Raises what FAILURES has, and Away.
        """
        ...

    def rejoined(self, partition: int) -> None:
        """Send what waits."""
        ...


class Shard:
    """See the module's docstring."""

    def __init__(
        self,
        partition: int,
        connector: Connector,
        scripts: Scripts,
        clock: RedisClock,
        sink: Sink,
    ) -> None:
        self.partition = partition
        self.names = names = Names(partition)
        self._connector = connector
        self._scripts = scripts
        self.clock = clock
        """That of its master: those of a cluster may differ."""
        self._sink = sink
        self._logs: dict[str, Callable[[Place, Fields], None]] = {
            names.log: lambda place, fields: sink.changed(partition, place, fields)
        }
        if partition == FLEET:
            self._logs[names.fleet_log] = lambda _, fields: sink.hinted(fields)
            self._logs[names.learned] = lambda _, fields: sink.taught(fields)
        self._read: dict[str, tuple[bytes, int]] = {}
        """Id and number of the last entry that was read of each log."""
        self.born = ""
        self._life = ""
        self.generation = 0
        self.committer = Committer(scripts)
        self._was_read = asyncio.Event()
        """Another one for each time that the logs are read."""
        self.loaded = asyncio.Event()
        """Not set while everything is read, at the start and after something was missed."""
        self.down_since: float | None = clock.now()
        self.call = self.committer.call

    @property
    def is_up(self) -> bool:
        """Whether there is a way to its master."""
        return self.committer.link is not None

    @property
    def is_apart(self) -> bool:
        """Whether what others do is not known: without a way, and until all is read that was missed."""
        return not (self.is_up and self.loaded.is_set())

    @property
    def client(self) -> Any:
        """The client of the master, for what is loaded. Raises Away."""
        link = self.committer.link
        if link is None:
            raise Away(self.committer.why)
        return link.client

    @property
    def log_number(self) -> int:
        """Number of the last change that was read."""
        return self._read[self.names.log][1]

    async def read_again(self) -> None:
        """Wait until what is in the logs now has been read, or the way is lost."""
        for _ in range(2):  # what is being read now may have been asked for before
            if self.is_up:
                await self._was_read.wait()

    async def run(self) -> None:
        """Keep the way up and read, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.committer.run())
            while True:
                pause = PROBE_S
                try:
                    async with asyncio.timeout(2 * (CONNECT_TIMEOUT_S + OPERATION_TIMEOUT_S)):
                        link = await self._connector.connect(self.partition)
                    await self._live_with(link)
                except* Gap as gaps:
                    self._life = ""
                    self._lose(_why(gaps))
                    pause = 0.0
                except* (Away, *FAILURES) as failures:
                    self._lose(_why(failures))
                stop_if_cancelled()
                await asyncio.sleep(pause)

    async def _live_with(self, link: Link) -> None:
        """Bring both sides together and read on, until the way is lost."""
        pipe: Any = link.client.pipeline(transaction=False)
        for text in self._scripts.texts.values():
            pipe.script_load(text)
        await pipe.execute()
        anew = link.run_id != self._life or link.generation > self.generation
        # Whether replicas confirm what a new master writes, the first reply says.
        self.committer.unsafe = link.acks > 0 and (anew or self.committer.unsafe)
        self.committer.acks = link.acks
        self.committer.link = link
        try:
            self.generation = max(self.generation, link.generation)
            if anew:
                self.loaded.clear()
            same_data = not anew or await self._begin()
            away_s = 0.0
            if self.down_since is not None:
                away_s = self.clock.now() - self.down_since
                log.info("redis is there", partition=self.partition, generation=self.generation)
            self.down_since = None
            self._sink.rejoined(self.partition)
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read_on(link))
                group.create_task(self._watch_replicas(link))
                if anew:
                    await self._sink.load(self.partition, same_data=same_data, away_s=away_s)
                    self._life = link.run_id
                    self.loaded.set()
                stop_if_cancelled()
                await reading
        finally:
            if self.committer.link is link:
                self.committer.lose("lost while reading")
            self._next_read()

    async def _begin(self) -> bool:
        """Find where the logs end. Return whether this is the data set of before."""
        keys, name = [self.names.meta, *self._logs], secrets.token_hex(8)
        asked_at = self.clock.now()
        reply = await self.call("tail", keys, name, self.born, self.generation)
        time_ms, born, generation, *tails = reply.values
        self.clock.forget()
        self.clock.note(int(time_ms), asked_at=asked_at, answered_at=self.clock.now())
        self.generation = int(generation)
        same = self.born in {"", born.decode()}
        self.born = born.decode()
        for index, name in enumerate(self._logs):
            self._read[name] = (tails[2 * index], int(tails[2 * index + 1]))
        await self._sink.begin(self.partition, parse_place(tails[0]))
        return same

    async def _read_on(self, link: Link) -> None:
        pause = POLL_S * max(1, self._connector.partitions / MANY)
        while self.committer.link is link:
            if not await self._poll(link):
                self._next_read()
                stop_if_cancelled()
                await asyncio.sleep(pause)
        raise Away(self.committer.why)

    async def _watch_replicas(self, link: Link) -> None:
        """Have a replica that comes later confirm what is written from then on, and notice when one does so again."""
        committer = self.committer
        while True:
            await asyncio.sleep(REPLICAS_S)
            if committer.unsafe or not committer.acks:
                # It may be long until somebody else writes, and only what is written is confirmed.
                keys, name = [self.names.meta], secrets.token_hex(8)
                await committer.ask_replicas(link, "tail", keys, name, self.born, self.generation)
            stop_if_cancelled()

    def _next_read(self) -> None:
        self._was_read.set()
        self._was_read = asyncio.Event()

    async def _poll(self, link: Link) -> bool:
        """Read what is new; return whether there may be more. Raises Gap."""
        pipe: Any = link.client.pipeline(transaction=False)
        # Before reading: what these numbers count has then been read, unless it is gone.
        sha = self._scripts.shas["numbers"]
        pipe.execute_command("EVALSHA", sha, 1, self.names.meta, *self._logs)
        pipe.xread({name: self._read[name][0] for name in self._logs}, count=READ_AT_ONCE)
        asked_at = self.clock.now()
        async with time_limit(OPERATION_TIMEOUT_S):
            (time_ms, born, *numbers), streams = await pipe.execute()
        self.clock.note(int(time_ms), asked_at=asked_at, answered_at=self.clock.now())
        if born.decode() != self.born:
            raise Gap("Redis lost everything")
        more = False
        for key, entries in streams or ():
            more = self._take(key.decode(), entries) or more
        for name, number in zip(self._logs, numbers, strict=True):
            read = self._read[name][1]
            if not more and int(number) > read:
                raise Gap(f"{name} had {int(number)} entries, and {read} were read")
        return more

    def _take(self, name: str, entries: Sequence[tuple[bytes, Fields]]) -> bool:
        take, (_, last) = self._logs[name], self._read[name]
        for id_, fields in entries:
            number = int(fields[b"n"])
            if number != last + 1:
                raise Gap(f"{name} goes on at {number} after {last}")
            last = number
            self._read[name] = (id_, number)
            take(parse_place(id_), fields)
        return len(entries) == READ_AT_ONCE

    def _lose(self, why: str) -> None:
        if self.down_since is None:
            self.down_since = self.clock.now()
            log.warning("redis is out of reach", partition=self.partition, why=why)
        self.committer.lose(why)


def _why(failures: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, Away) else f"{type(error).__name__}: {error}"
