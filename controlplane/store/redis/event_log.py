"""The events of all partitions in the order in which this replica saw them, for readers that resume anywhere.

An id is the place in every partition's log, joined by dots: whichever replica a reader comes back to, what lies behind
these places is what it has not seen. Between partitions the order may differ from replica to replica.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from typing import NamedTuple

from controlplane.core.model import Event

Place = tuple[int, int]
"""An id of a Redis stream: milliseconds and a number."""

Fields = Mapping[bytes, bytes]

MAX_EVENTS = 10_000
"""Kept in memory for readers that come back; they are kept as they came, about a kilobyte each."""

FUTURE_MS = 60_000
"""Another replica may be ahead by moments. An id further ahead is none of this log."""


def parse_place(text: str | bytes) -> Place:
    """Return the place that the id of a stream's entry is. Raises ValueError."""
    ms, _, number = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(ms), int(number or 0)


class _Kept(NamedTuple):
    partition: int
    place: Place
    id: str
    fields: Fields


class EventLog:
    """A ring, and readers that wait for the next event."""

    def __init__(
        self,
        partitions: int,
        build: Callable[[str, Fields], Event],
        now_ms: Callable[[], int],
    ) -> None:
        """`build` makes an event of its id and the entry that it came in; `now_ms` is Redis' time."""
        self._now_ms = now_ms
        self._build = build
        self._kept: deque[_Kept] = deque(maxlen=MAX_EVENTS)
        self._seen: list[Place] = [(0, 0)] * partitions
        self._floor: list[Place] = [(0, 0)] * partitions
        """Behind these places nothing is missing."""
        self.count = 0
        self._lost = 0
        self._news = asyncio.Event()

    @property
    def last_id(self) -> str:
        """The place up to which everything was seen."""
        return _join(self._seen)

    def saw(self, partition: int, place: Place) -> None:
        """Note an entry that is no event."""
        self._seen[partition] = place

    def append(self, partition: int, place: Place, fields: Fields) -> None:
        """Take in the next event of a partition."""
        self._seen[partition] = place
        if len(self._kept) == MAX_EVENTS:
            oldest = self._kept[0]
            self._floor[oldest.partition] = oldest.place
        self._kept.append(_Kept(partition, place, self.last_id, fields))
        self.count += 1
        self._wake()

    def restart(self, partition: int, place: Place) -> None:
        """Begin a partition's log anew behind a place: what was before is unknown, or is not there any more."""
        self._kept = deque(
            (one for one in self._kept if one.partition != partition), maxlen=MAX_EVENTS
        )
        self._seen[partition] = self._floor[partition] = place
        self._lost += 1
        self._wake()

    async def follow(self, id_: str) -> AsyncIterator[Event]:
        """Yield events behind an id ("" for all that are kept), for ever; first `stream.reset` when some are gone."""
        places = self._places(id_) if id_ else list(self._floor)
        lost, serial = self._lost, 0
        while True:
            if places is None or lost != self._lost or self._is_behind(places):
                lost, serial, places = self._lost, 0, list(self._floor)
                yield self._reset()
                continue
            first = self.count - len(self._kept)
            batch = list(islice(self._kept, max(0, serial - first), max(0, serial - first) + 100))
            serial = max(serial, first) + len(batch)
            if not batch:
                await self._news.wait()
            # A copy: the ring may turn while the reader is away with an event.
            for one in batch:
                if one.place > places[one.partition]:
                    places[one.partition] = one.place
                    yield self._build(one.id, one.fields)

    def _is_behind(self, places: list[Place]) -> bool:
        return any(place < floor for place, floor in zip(places, self._floor, strict=True))

    def _places(self, id_: str) -> list[Place] | None:
        """Return the places that an id names, None when it is no id of this log."""
        try:
            places = [parse_place(text) for text in id_.split(".")]
        except ValueError:
            return None
        if len(places) != len(self._seen):
            return None
        newest = max(place[0] for place in places)
        return places if newest <= self._now_ms() + FUTURE_MS else None

    def _reset(self) -> Event:
        oldest = self._kept[0] if self._kept else None
        id_ = _join(self._floor)
        at = self._build(oldest.id, oldest.fields).at if oldest else 0.0
        return Event(id_, "stream.reset", at, {"oldest": oldest.id if oldest else id_})

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _join(places: list[Place]) -> str:
    return ".".join([f"{ms}-{number}" for ms, number in places])
