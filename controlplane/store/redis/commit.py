"""Group commit: what is to be written at the same moment goes in one round trip, and is confirmed by a replica once.

While one batch is on its way the next one gathers, so a batch is as large as the load needs it to be.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

from controlplane.store.redis.connect import FAILURES, OPERATION_TIMEOUT_S, Link
from controlplane.store.redis.patience import time_limit
from controlplane.store.redis.scripts import Name, Scripts

MAX_BATCH = 256
"""Calls of one round trip: more would make the first wait for the last, less would waste round trips."""

MAX_WAITING = 8192
"""Calls that may wait: two seconds of a join storm. Beyond, an answer from memory is the better one."""

WAIT_MS = 50
"""How long a replica has to confirm. Loopback takes a millisecond, another zone two."""

ELSEWHERE = (
    AskError, BusyLoadingError, ClusterDownError, MasterDownError, MovedError, NoScriptError,
    OutOfMemoryError, ReadOnlyError, TryAgainError,
)  # fmt: skip
"""Answers of a server that is not, or not now, the one to ask, or that has to be told the scripts first."""

LOST = [b"lost"]
"""The answer of a script that met another data set than its caller knows."""

LATE = [b"late"]
"""The answer of a script that came too late: it waited here, or in the sockets of a server that stood still."""

Value = str | int | bytes


class Away(Exception):  # noqa: N818  a state rather than an error: callers go on without
    """The partition is out of reach. What was asked may have been done."""


class Reply(NamedTuple):
    """What a script returned."""

    values: Sequence[bytes]
    safe: bool
    """As many replicas as there have to be have it, too."""


@dataclass(slots=True)
class _Call:
    script: Name
    keys: Sequence[str]
    args: Sequence[Value]
    done: "asyncio.Future[Reply]"


class Committer:
    """Calls the scripts of one partition. `link` is None while there is no way to it."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._waiting: list[_Call] = []
        self._wake = asyncio.Event()
        self.link: Link | None = None
        self.why = "not connected yet"
        self.acks = 0
        """Replicas that have to confirm a write."""
        self.unsafe = False
        """No replica confirmed the last batch."""

    def call(self, script: Name, keys: Sequence[str], *args: Value) -> "asyncio.Future[Reply]":
        """Run a script behind all that were called before. Awaiting it raises Away."""
        done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self.link is None:
            done.set_exception(Away(self.why))
        elif len(self._waiting) >= MAX_WAITING:
            done.set_exception(Away(f"{MAX_WAITING} calls wait"))
        else:
            self._waiting.append(_Call(script, keys, args, done))
            self._wake.set()
        return done

    def lose(self, why: str) -> None:
        """Give the link up: whoever waits is told."""
        self.link, self.why = None, why
        waiting, self._waiting = self._waiting, []
        _fail(waiting, why)

    async def run(self) -> None:
        """Send what is asked for, until cancelled."""
        try:
            while True:
                await self._wake.wait()
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                if not self._waiting:
                    self._wake.clear()
                if batch and self.link is not None:
                    await self._send(self.link, batch)
                stop_if_cancelled()
        finally:
            self.lose("stopped")

    async def _send(self, link: Link, batch: Sequence[_Call]) -> None:
        try:
            async with time_limit(OPERATION_TIMEOUT_S):
                await self._try(link, batch)
        except FAILURES as error:
            why = f"{type(error).__name__}: {error}" if str(error) else "no answer in time"
            _fail(batch, why)
            if self.link is link:
                self.lose(why)
        finally:
            _fail(batch, "stopped")

    async def ask_replicas(
        self, link: Link, script: Name, keys: Sequence[str], *args: Value
    ) -> None:
        """Run a script that writes; if a replica confirms it, one has to from now on. Raises what FAILURES has.

        INFO calls a replica online a moment before it can confirm anything.
        """
        pipe: Any = link.client.pipeline(transaction=False)
        pipe.execute_command("EVALSHA", self._scripts.shas[script], len(keys), *keys, *args)
        pipe.execute_command("WAIT", 1, WAIT_MS)
        async with time_limit(OPERATION_TIMEOUT_S):
            if not (await link.client.info("replication"))["connected_slaves"]:
                return
            _, confirmed = await pipe.execute()
        if confirmed and self.link is link:
            self.acks, self.unsafe = 1, False

    async def _try(self, link: Link, batch: Sequence[_Call]) -> None:
        pipe, acks = link.client.pipeline(transaction=False), self.acks
        for call in batch:
            sha = self._scripts.shas[call.script]
            pipe.execute_command("EVALSHA", sha, len(call.keys), *call.keys, *call.args)
        if acks:
            pipe.execute_command("WAIT", acks, WAIT_MS)
        answers = await pipe.execute(raise_on_error=False)
        safe = True
        if acks:
            confirmed = answers.pop()
            safe = isinstance(confirmed, int) and confirmed >= acks
        self.unsafe = not safe
        elsewhere = _tell(batch, answers, safe=safe)
        if elsewhere is not None:
            raise elsewhere


def _tell(batch: Sequence[_Call], answers: Sequence[Any], *, safe: bool) -> Exception | None:
    """Give each call its answer; return why the others have none, if this is not the server to ask."""
    elsewhere: Exception | None = None
    for call, answer in zip(batch, answers, strict=True):
        if isinstance(answer, ELSEWHERE):
            elsewhere = answer
        elif answer == LOST:
            elsewhere = ReadOnlyError("Redis lost everything")
        elif call.done.done():
            continue  # the caller went away
        elif answer == LATE:
            call.done.set_exception(Away("done too late"))
        elif isinstance(answer, Exception):
            call.done.set_exception(answer)
        else:
            call.done.set_result(Reply(answer, safe))
    return elsewhere


def stop_if_cancelled() -> None:
    """Raise CancelledError in a task that was cancelled and does not know it.

    The client uses asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes just when what it
    waits for is done.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _fail(calls: Sequence[_Call], why: str) -> None:
    for call in calls:
        if not call.done.done():
            call.done.set_exception(Away(why))
