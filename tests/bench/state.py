"""What the store over Redis costs: memory of a participant, admissions a second, and both with many rooms.

People are as the allocator makes them: 16 regions, each with its candidate, in rooms of five. Times are CPU of this
process, which the server does not share.
"""

import asyncio
import gc
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from random import Random

from controlplane.adapters.clock import SystemClock
from controlplane.adapters.garbage import collect_garbage
from controlplane.core.allocate import allocate
from controlplane.core.model import (
    Assignment,
    Decision,
    LinkSeed,
    Location,
    ParticipantId,
    Region,
    RegionId,
    Role,
    RoomId,
    RttEstimate,
    RttSource,
    Topology,
)
from controlplane.core.rtt import Estimates
from controlplane.core.sums import NOBODY
from controlplane.store.base import Admitted
from controlplane.store.redis.connect import connector_of
from controlplane.store.redis.store import RedisStore
from controlplane.store.redis.target import parse_target
from tests.core.build import NOW, join, node, world
from tests.store.servers import RedisServer

REGIONS, NODES_EACH = 16, 3
PEOPLE = 10_000
ROOM_OF = 5
FEW_ROOMS, MANY_ROOMS = 100, 100_000
SAMPLE = 3000
"""Admissions that are timed."""
AT_ONCE = 64
"""Callers that wait at the same time, as in a join storm."""


def report() -> str:
    """Return the figures."""
    server = RedisServer()
    try:
        return asyncio.run(_report(server))
    finally:
        server.close()


async def _report(server: RedisServer) -> str:
    crowd = _Crowd()
    async with _opened(server, "first") as store:
        before = _number(server, b"used_memory", "INFO", "memory")
        fresh = await _admit_all(store, crowd.people(PEOPLE))
        log = int(server.command("MEMORY", "USAGE", "{tw:0}:log", "SAMPLES", "0")[1:])
        used = _number(server, b"used_memory", "INFO", "memory") - before - log
        again = await _admit_all(store, list(store._view)[:SAMPLE])
    server.command("FLUSHALL")
    async with _opened(server, "second") as store:
        await _admit_all(store, crowd.people(FEW_ROOMS, room_of=1))
        few = await _admit_all(store, crowd.people(SAMPLE))
        await _admit_all(store, crowd.people(MANY_ROOMS, room_of=1))
        many = await _admit_all(store, crowd.people(SAMPLE))
    return "\n".join(
        (
            f"state: a participant of {REGIONS} regions takes {used / PEOPLE:.0f} bytes in Redis, at most 1500",
            f"  admission: {fresh:.0f} us of this process, {1e6 / fresh:,.0f} a second",
            f"  repeat: {again:.0f} us, {1e6 / again:,.0f} a second",
            f"  an admission with {MANY_ROOMS:,} rooms / with {FEW_ROOMS}: {many / few:.2f}",
        )
    )


def _opened(server: RedisServer, replica: str) -> AbstractAsyncContextManager[RedisStore]:
    connector = connector_of(parse_target(server.url))
    return RedisStore.opened(connector, replica=replica, now=SystemClock().now)


def _number(server: RedisServer, name: bytes, *command: str) -> int:
    found = re.search(rb"\b" + name + rb":(\d+)", server.command(*command))
    assert found
    return int(found[1])


async def _admit_all(store: RedisStore, people: Iterable[Assignment]) -> float:
    """Admit them, AT_ONCE at a time; return the microseconds of CPU that each took."""
    waiting: Sequence[Assignment] = list(people)
    left = iter(waiting)
    # They are not of the store, and nobody waits for it yet.
    gc.collect()
    gc.freeze()

    async def caller() -> None:
        for one in left:
            outcome = await store.admit(
                one, replaces=None, event="participant.assigned", now=SystemClock().now()
            )
            assert isinstance(outcome, Admitted)
            assert not outcome.degraded

    begun = time.process_time()
    async with asyncio.TaskGroup() as process:
        collecting = process.create_task(collect_garbage())
        async with asyncio.TaskGroup() as callers:
            for _ in range(AT_ONCE):
                callers.create_task(caller())
        took = time.process_time() - begun
        collecting.cancel()
    return took / len(waiting) * 1e6


class _Crowd:
    """People who have not joined yet."""

    def __init__(self) -> None:
        self._rng = rng = Random(4)  # noqa: S311 - a benchmark repeats itself
        names = [RegionId(f"eu-region-{number:02}") for number in range(REGIONS)]
        places = [Location(rng.uniform(-40, 60), rng.uniform(-120, 120)) for _ in names]
        regions = {
            id_: Region(id_, f"Region {number}", places[number]) for number, id_ in enumerate(names)
        }
        links = tuple(LinkSeed((a, b), rng.uniform(10, 200)) for a in names for b in names if a < b)
        nodes = [
            node(f"{id_}-node-{number}", id_, load=rng.random() / 2)
            for id_ in names
            for number in range(NODES_EACH)
        ]
        self._world = world(nodes, Topology(regions, links))
        self._made = 0

    def people(self, count: int, *, room_of: int = ROOM_OF) -> list[Assignment]:
        return [self._one(room_of) for _ in range(count)]

    def _one(self, room_of: int) -> Assignment:
        number, rng, now = self._made, self._rng, SystemClock().now()
        self._made += 1
        sources = (RttSource.PROBE, RttSource.GEO, RttSource.VIA_MESH)
        known = Estimates(
            {
                id_: RttEstimate(rng.uniform(5, 300), rng.uniform(1, 40), rng.choice(sources))
                for id_ in self._world.topology.regions
            }
        )
        wanted = replace(
            join(f"participant-{number:06}", session=f"session-{rng.getrandbits(64):016x}"),
            room=RoomId(f"room-{number // room_of:06}-{room_of}"),
        )
        decision = allocate(wanted, NOBODY, self._world, known, now=NOW)
        assert isinstance(decision, Decision)
        return Assignment(
            room=wanted.room,
            participant=ParticipantId(wanted.participant),
            session=wanted.session,
            role=Role.PUBLISHER,
            node=decision.node,
            region=decision.region,
            epoch=0,
            assigned_at=now,
            expires_at=now + 60,
            decision=decision,
            rtts=known.rtts,
            network="203.0.113.0/24",
        )
