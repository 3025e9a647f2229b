"""Which track is in which slot."""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from relay.core.model import Codec, MediaKind
from relay.core.slots import SPEAKING_S, SlotSpec, assign
from relay.core.track import Track
from tests.relay.packets import H264, OPUS, VP8, make_track

Playable = Callable[[SlotSpec, Track], bool]


def everything(_: SlotSpec, __: Track) -> bool:
    return True


def video_slots(count: int) -> list[SlotSpec]:
    return [SlotSpec(f"v{n}", MediaKind.VIDEO) for n in range(count)]


def tracks_of(names: str, codec: Codec = VP8) -> list[Track]:
    return [make_track(f"{name}-{codec.name}", codec, participant=name) for name in names]


def fill(
    slots: Sequence[SlotSpec],
    tracks: Sequence[Track],
    current: Mapping[str, Track] | None = None,
    *,
    viewer: str = "viewer",
    pinned: str | None = None,
    playable: Playable = everything,
) -> dict[str, Track]:
    return assign(slots, tracks, current or {}, viewer=viewer, pinned=pinned, playable=playable)


def who(assigned: Mapping[str, Track]) -> dict[str, str]:
    return {mid: track.info.participant for mid, track in assigned.items()}


def test_the_first_who_came_are_shown() -> None:
    assert who(fill(video_slots(2), tracks_of("abc"))) == {"v0": "a", "v1": "b"}


def test_nobody_sees_himself() -> None:
    assert who(fill(video_slots(3), tracks_of("abc"), viewer="b")) == {"v0": "a", "v1": "c"}


def test_a_slot_keeps_its_track_while_others_come_and_go() -> None:
    a, b, c = tracks_of("abc")
    current = fill(video_slots(3), [a, b, c])
    assert fill(video_slots(3), [b, c], current) == {"v1": b, "v2": c}
    [d] = tracks_of("d")
    assert fill(video_slots(3), [b, c, d], {"v1": b, "v2": c}) == {"v0": d, "v1": b, "v2": c}


def test_those_who_spoke_last_are_shown_and_only_one_tile_changes() -> None:
    tracks = tracks_of("abcd")
    sounds = tracks_of("abcd", OPUS)
    current = fill(video_slots(2), tracks)
    sounds[3].spoke_at, sounds[1].spoke_at = 20.0, 10.0
    assert who(fill(video_slots(2), tracks + sounds, current)) == {"v0": "d", "v1": "b"}


def test_pinned_slots_show_one_participant_or_nothing() -> None:
    assert who(fill(video_slots(2), tracks_of("abc"), pinned="c")) == {"v0": "c"}
    assert fill(video_slots(2), tracks_of("abc"), pinned="nobody") == {}
    assert fill(video_slots(2), tracks_of("abc"), pinned="a", viewer="a") == {}


def test_kinds_do_not_mix() -> None:
    slots = [SlotSpec("0", MediaKind.AUDIO), SlotSpec("1", MediaKind.VIDEO)]
    shown = fill(slots, tracks_of("a") + tracks_of("b", OPUS))
    assert who(shown) == {"0": "b", "1": "a"}


def test_a_codec_that_the_slot_does_not_take_is_passed_over() -> None:
    def only_vp8(_: SlotSpec, track: Track) -> bool:
        return track.info.codec == VP8

    tracks = tracks_of("ab", H264) + tracks_of("c", VP8)
    assert who(fill(video_slots(2), tracks, playable=only_vp8)) == {"v0": "c"}


spoken = st.lists(st.none() | st.floats(0, 100), min_size=4, max_size=4)


@given(st.integers(0, 6), spoken)
def test_the_result_is_stable_and_complete(count: int, times: list[float | None]) -> None:
    """As many tracks as fit, each once; asking again, in any order of tracks, changes nothing that is shown."""
    tracks = tracks_of("abcd")
    for track, at in zip(tracks, times, strict=True):
        if at is not None:
            track.spoke_at = at
    shown = fill(video_slots(count), tracks)
    assert len(shown) == min(count, 4)
    assert len(set(map(id, shown.values()))) == len(shown)
    assert fill(video_slots(count), tracks, shown) == shown
    if len(set(times)) == 4:
        for order in permutations(tracks):
            assert fill(video_slots(count), order, shown) == shown


@given(st.integers(1, 4), spoken, spoken)
def test_whoever_stays_among_the_shown_stays_in_the_same_slot(
    count: int, before: list[float | None], after: list[float | None]
) -> None:
    tracks = tracks_of("abcd")

    def speak(times: list[float | None]) -> None:
        for track, at in zip(tracks, times, strict=True):
            track.spoke_at = float("-inf") if at is None else at

    speak(before)
    first = fill(video_slots(count), tracks)
    speak(after)
    second = fill(video_slots(count), tracks, first)
    for mid, track in first.items():
        if track in second.values():
            assert second[mid] is track


def test_three_who_talk_at_once_do_not_swap_two_tiles() -> None:
    tracks, sounds = tracks_of("abc"), tracks_of("abc", OPUS)
    shown: dict[str, Track] = {}
    for look in range(10):
        for place, sound in enumerate(sounds):  # whose packet came last is chance
            sound.spoke_at = look * 0.5 + 0.01 * ((place * look) % 3)
        before, shown = shown, fill(video_slots(2), tracks + sounds, shown)
        assert not before or shown == before
    sounds[2].spoke_at += SPEAKING_S + 0.1
    assert "c" in who(fill(video_slots(2), tracks + sounds, shown)).values()


def test_sound_and_picture_of_one_participant_go_into_slots_of_one_rank() -> None:
    slots = [SlotSpec(f"a{n}", MediaKind.AUDIO) for n in range(3)] + video_slots(3)
    only_heard, only_seen = tracks_of("a", OPUS), tracks_of("b")
    both = [*tracks_of("c", OPUS), *tracks_of("c")]
    shown = fill(slots, only_heard + only_seen)
    assert who(fill(slots, only_heard + only_seen + both, shown)) == {
        "a0": "a", "v1": "b", "a2": "c", "v2": "c",
    }  # fmt: skip
    assert who(fill(slots, only_heard + both)) == {"a0": "a", "a1": "c", "v1": "c"}
    assert (
        who(fill(slots[:2] + slots[3:4], only_heard + both))["v0"] == "c"
    )  # rather so than not at all
