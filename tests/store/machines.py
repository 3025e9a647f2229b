"""What state machines over a real Redis have in common: ways that can be cut, clocks that can be moved, how to run one.

What processes and a server do in real time never happens twice the same way. So nothing is shrunk, and what broke is
collected in `broken` rather than believed only when it happens again.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from controlplane.store.redis.commit import Away
from controlplane.store.redis.connect import FAILURES, Connector, Link
from controlplane.store.redis.scripts import Scripts
from controlplane.store.redis.store import RedisStore
from tests.store.servers import RedisServer

EXAMPLES = 300
STEPS = 40

REST_TRIES = 15_000
"""Of a few milliseconds each: whoever has not come to rest by then never does."""

SHIFT = "test:shift"
CLOCK = "return time[1] * 1000 + math.floor(time[2] / 1000)"
SHIFTED = f"{CLOCK} + tonumber(redis.call('GET', '{SHIFT}') or '0')"


def edited(scripts: Scripts, old: str, new: str) -> Scripts:
    """Return the scripts with something else in the place of `old`."""
    assert any(old in text for text in scripts.texts.values()), f"no script has {old!r}"
    return Scripts.of({name: text.replace(old, new) for name, text in scripts.texts.items()})


def shifted_scripts() -> Scripts:
    """Return the scripts on a clock that `shift` moves."""
    return edited(Scripts.load(), CLOCK, SHIFTED)


def shift(server: RedisServer, seconds: float) -> None:
    """Let Redis' clock be so many seconds ahead of the real one."""
    server.command("SET", SHIFT, str(round(seconds * 1000)))


class Wire:
    """A way to Redis that can be cut."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self.is_cut = False

    @property
    def partitions(self) -> int:
        return self._connector.partitions

    async def connect(self, partition: int) -> Link:
        if self.is_cut:
            raise ConnectionError("cut")
        return await self._connector.connect(partition)

    async def close(self) -> None:
        await self._connector.close()


async def come_to_rest(stores: Sequence[RedisStore]) -> None:
    """Wait until all are in normal mode, nothing is due and everything is read."""
    for _ in range(REST_TRIES):
        if await _is_quiet(stores) and await _is_quiet(stores):
            return
        await asyncio.sleep(0.002)
    raise AssertionError(
        f"the replicas do not come to rest: {[await one.health() for one in stores]}"
    )


async def _is_quiet(stores: Sequence[RedisStore]) -> bool:
    for one in stores:
        health = await one.health()
        if health.mode != "normal" or health.pending or one._fleet._due:
            return False
    shards = [one._shards[0] for one in stores]
    logs = (shards[0].names.log, shards[0].names.fleet_log)
    try:
        meta = await shards[0].client.hgetall(shards[0].names.meta)
    except (Away, *FAILURES):
        return False
    return all(
        one.loaded.is_set()
        and one.born.encode() == meta.get(b"born")
        and all(one._read[log][1] == int(meta.get(log.encode(), 0)) for log in logs)
        for one in shards
    )


def run_machine(
    kind: type[RuleBasedStateMachine], *, examples: int = EXAMPLES, **members: Any
) -> list[str]:
    """Run a machine with these class members; return the invariants that broke."""
    broken: list[str] = []
    machine = type("Machine", (kind,), {**members, "broken": broken})
    how = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(machine, settings=how)
    except (AssertionError, BaseExceptionGroup, Flaky) as error:
        if not broken:
            raise
        broken += getattr(error, "__notes__", ())  # the steps that led there
    return broken
