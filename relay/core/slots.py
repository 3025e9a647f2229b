"""Which track goes into which slot of a subscriber.

A slot is a recvonly m-line of the WHEP offer. With more participants than slots, those who spoke last are
shown ("last N"); whoever is shown keeps the slot until somebody else needs it, so that tiles do not jump.

The n-th slots of both kinds are one MediaStream, within which browsers keep lips in sync: a participant's sound and
picture go into slots of the same rank where that is possible.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from relay.core.model import MediaKind
from relay.core.track import Track

SPEAKING_S = 2.0
"""Who was heard so shortly before whoever was heard last is in the same conversation: among these nobody loses a
slot. Without it three people who talk at once swap two tiles with every look, each time with a key frame."""


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
    shown = current
    heard = _last_heard(tracks)
    for kind in MediaKind:
        mine = [slot for slot in slots if slot.kind is kind]
        others = [slot for slot in slots if slot.kind is not kind]
        beside = [
            shown[slot.mid].info.participant if slot.mid in shown else None for slot in others
        ]
        offered = [
            track
            for track in tracks
            if track.info.kind is kind
            and track.info.participant != viewer
            and (pinned is None or track.info.participant == pinned)
        ]
        chosen.update(_fill(mine, offered, current, heard, beside, playable))
        shown = chosen
    return chosen


def _last_heard(tracks: Sequence[Track]) -> dict[str, float]:
    """Return when each participant was heard last, the same for all who are in the conversation now."""
    heard: dict[str, float] = {}
    for track in tracks:
        who = track.info.participant
        heard[who] = max(heard.get(who, float("-inf")), track.spoke_at)
    speaking_since = max(heard.values(), default=float("-inf")) - SPEAKING_S
    return {who: min(at, speaking_since) for who, at in heard.items()}


def _fill(
    slots: Sequence[SlotSpec],
    offered: Sequence[Track],
    current: Mapping[str, Track],
    heard: Mapping[str, float],
    beside: Sequence[str | None],
    playable: Callable[[SlotSpec, Track], bool],
) -> dict[str, Track]:
    """Return mid → track for slots of one kind; `beside` names who is in the slots of the other kind."""
    # Python's sort is stable: among equals who are shown, and among those who are not, the order of arrival decides.
    held = set(map(id, current.values()))
    ranked = sorted(offered, key=lambda t: (-heard[t.info.participant], id(t) not in held))
    fitting = (track for track in ranked if any(playable(slot, track) for slot in slots))
    shown = list(islice(fitting, len(slots)))
    filled = {
        slot.mid: current[slot.mid]
        for slot in slots
        if slot.mid in current and current[slot.mid] in shown
    }
    for track in shown:
        if track in filled.values():
            continue
        free = [
            (_distance(beside, rank, track), rank)
            for rank, slot in enumerate(slots)
            if slot.mid not in filled and playable(slot, track)
        ]
        if free:
            filled[slots[min(free)[1]].mid] = track
    return filled


def _distance(beside: Sequence[str | None], rank: int, track: Track) -> int:
    """Return 0 beside the participant's own other track, 1 beside nobody, 2 beside somebody else."""
    neighbour = beside[rank] if rank < len(beside) else None
    if neighbour is None:
        return 1
    return 0 if neighbour == track.info.participant else 2
