"""What Redis has, read as a whole: at the start, and whenever something was missed."""

from collections.abc import Callable
from typing import Any

from controlplane.core.model import ParticipantId, RoomId
from controlplane.store.redis.event_log import MAX_EVENTS, Fields, Place, parse_place
from controlplane.store.redis.names import Names
from controlplane.store.view import Key

KEYS_AT_ONCE = 50
"""Keys of one round trip: what comes is read in one piece, and joins wait for it."""

EVENTS_AT_ONCE = 1000


async def load_people(
    client: Any, names: Names, take: Callable[[Key, bytes], int], ended: Callable[[Key, int], None]
) -> dict[Key, int]:
    """Have `take` called with everybody's record and `ended` with the epochs of who left.

    Return the epochs that `take` returned.
    """
    present: dict[Key, int] = {}
    room_prefix, gone_prefix = names.room(""), names.gone_prefix
    cursor = 0
    while True:
        cursor, found = await client.scan(cursor, match=f"{names.tag}:*", count=KEYS_AT_ONCE)
        texts = [name.decode() for name in found]
        rooms = [text for text in texts if text.startswith(room_prefix)]
        gone = [text for text in texts if text.startswith(gone_prefix)]
        pipe = client.pipeline(transaction=False)
        for text in rooms:
            pipe.hgetall(text)
        for text in gone:
            pipe.get(text)
        answers = await pipe.execute()
        for text, people in zip(rooms, answers, strict=False):
            room = RoomId(text.removeprefix(room_prefix))
            for who, record in people.items():
                key = (room, ParticipantId(who.decode()))
                present[key] = take(key, record)
        for text, epoch in zip(gone, answers[len(rooms) :], strict=True):
            in_room, _, who = text.removeprefix(gone_prefix).partition("/")
            ended((RoomId(in_room), ParticipantId(who)), int(epoch or 0))
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
