"""The tracks of each room on this node, local ones and those that trunks offer, in one place."""

from collections.abc import Callable, Iterable

from relay.core.track import Track

RoomWatcher = Callable[[str], None]
"""Called with a room's id after its tracks changed. Level-triggered: look at the tracks, not at the call."""


class Rooms:
    """Which tracks each room has here, and who wants to know when that changes."""

    def __init__(self) -> None:
        self._tracks: dict[str, dict[str, Track]] = {}
        self._watchers: list[RoomWatcher] = []
        self._given_up = {False: 0, True: 0}
        """Of tracks that are gone, by whether a trunk brought them."""

    def watch(self, watcher: RoomWatcher) -> None:
        """Call `watcher` after every change, for as long as the node lives."""
        self._watchers.append(watcher)

    def tracks(self, room: str) -> tuple[Track, ...]:
        """Return the room's tracks in the order in which they came."""
        return tuple(self._tracks.get(room, {}).values())

    def track(self, room: str, track_id: str) -> Track | None:
        """Return one track."""
        return self._tracks.get(room, {}).get(track_id)

    def all(self) -> Iterable[Track]:
        """Return every track on the node."""
        return [track for tracks in self._tracks.values() for track in tracks.values()]

    def given_up(self, *, from_trunks: bool) -> int:
        """Return how many packets never came, whatever was asked for, since the start."""
        present = (t.gaps.given_up for t in self.all() if (t.info.hops > 0) == from_trunks)
        return self._given_up[from_trunks] + sum(present)

    def add(self, tracks: Iterable[Track]) -> None:
        """Add tracks; one with the id of another in its room takes its place."""

        def put(known: dict[str, Track], track: Track) -> None:
            before = known.get(track.info.id)
            if before is not None and before is not track:
                self._count(before)
            known[track.info.id] = track

        self._change(tracks, put)

    def remove(self, tracks: Iterable[Track]) -> None:
        """Remove these very tracks; one whose place another has taken is gone already."""

        def drop(known: dict[str, Track], track: Track) -> None:
            if known.get(track.info.id) is track:
                self._count(track)
                del known[track.info.id]

        self._change(tracks, drop)

    def _count(self, gone: Track) -> None:
        self._given_up[gone.info.hops > 0] += gone.gaps.given_up

    def _change(
        self, tracks: Iterable[Track], apply: Callable[[dict[str, Track], Track], None]
    ) -> None:
        changed = []
        for track in tracks:
            room = track.info.room
            apply(self._tracks.setdefault(room, {}), track)
            if room not in changed:
                changed.append(room)
        for room in changed:
            if not self._tracks[room]:
                del self._tracks[room]
        for room in changed:
            for watcher in self._watchers:
                watcher(room)
