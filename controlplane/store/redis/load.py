"""What Redis has, read as a whole: at the start, and whenever something was missed."""

from collections.abc import Callable
from typing import Any

from controlplane.core.model import ParticipantId, RoomId
from controlplane.store.redis.event_log import MAX_EVENTS, Fields, Place, parse_place
from controlplane.store.redis.names import Names
from controlplane.store.view import Key

ROOMS_AT_ONCE = 50
"""Rooms of one round trip: what comes is read in one piece, and joins wait for it."""

EVENTS_AT_ONCE = 1000


async def load_people(
    client: Any, names: Names, take: Callable[[Key, bytes], int]
) -> dict[Key, int]:
    """Have `take` called with everybody's record; return the epochs that it returned."""
    present: dict[Key, int] = {}
    prefix = names.room("")
    cursor = 0
    while True:
        cursor, found = await client.scan(cursor, match=f"{prefix}*", count=ROOMS_AT_ONCE)
        pipe = client.pipeline(transaction=False)
        for name in found:
            pipe.hgetall(name)
        for name, people in zip(found, await pipe.execute(), strict=True):
            room = RoomId(name.decode().removeprefix(prefix))
            for who, record in people.items():
                key = (room, ParticipantId(who.decode()))
                present[key] = take(key, record)
        if not cursor:
            return present


async def load_log(
    client: Any, names: Names, newest: Place
) -> tuple[Place, list[tuple[Place, Fields]]]:
    """Return the last entries of the log up to `newest`, and a place behind which none of them is missing."""
    entries: list[tuple[bytes, Fields]] = []
    upper = f"{newest[0]}-{newest[1]}"
    while len(entries) < MAX_EVENTS:
        older = await client.xrevrange(names.log, max=upper, count=EVENTS_AT_ONCE)
        entries += older
        if len(older) < EVENTS_AT_ONCE:
            break
        upper = f"({older[-1][0].decode()}"
    found = [(parse_place(id_), fields) for id_, fields in reversed(entries)]
    if not found or found[0][1][b"n"] == b"1":
        return (0, 0), found
    ms, number = found[0][0]
    return ((ms, number - 1) if number else (ms - 1, 0)), found
