"""Which track goes into which slot of a subscriber.

A slot is a recvonly m-line of the WHEP offer. With more participants than slots, those who spoke last are
shown ("last N"); whoever is shown keeps the slot until somebody else needs it, so that tiles do not jump.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.core.model import MediaKind
from relay.core.track import Track


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """One m-line that receives."""

    mid: str
    kind: MediaKind


def assign(
    slots: Sequence[SlotSpec],
    tracks: Sequence[Track],
    current: Mapping[str, Track],
    *,
    viewer: str,
    pinned: str | None,
    playable: Callable[[SlotSpec, Track], bool],
) -> dict[str, Track]:
    """Return mid → track for every slot that shows something.

    `tracks` are the room's, in order of arrival; `current` is what the slots show now. Nobody receives their
    own tracks. `pinned` restricts all slots to one participant. `playable` tells whether the subscriber
    negotiated the track's codec for that slot.
    """
    chosen: dict[str, Track] = {}
    for kind in MediaKind:
        mine = [slot for slot in slots if slot.kind is kind]
        offered = [
            track
            for track in tracks
            if track.info.kind is kind
            and track.info.participant != viewer
            and (pinned is None or track.info.participant == pinned)
        ]
        chosen.update(_fill(mine, offered, current, _last_spoken(tracks), playable))
    return chosen


def _last_spoken(tracks: Sequence[Track]) -> dict[str, float]:
    spoken: dict[str, float] = {}
    for track in tracks:
        who = track.info.participant
        spoken[who] = max(spoken.get(who, float("-inf")), track.spoke_at)
    return spoken


def _fill(
    slots: Sequence[SlotSpec],
    offered: Sequence[Track],
    current: Mapping[str, Track],
    spoken: Mapping[str, float],
    playable: Callable[[SlotSpec, Track], bool],
) -> dict[str, Track]:
    # Python's sort is stable: among the silent the order of arrival decides.
    ranked = sorted(offered, key=lambda track: -spoken[track.info.participant])
    shown = [track for track in ranked if any(playable(slot, track) for slot in slots)][
        : len(slots)
    ]
    filled = {
        slot.mid: current[slot.mid]
        for slot in slots
        if slot.mid in current and current[slot.mid] in shown
    }
    waiting = [track for track in shown if track not in filled.values()]
    for slot in slots:
        if slot.mid in filled:
            continue
        for track in waiting:
            if playable(slot, track):
                filled[slot.mid] = track
                waiting.remove(track)
                break
    return filled
