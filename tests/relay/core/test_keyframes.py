"""Key frames are recognised at their first packet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keyframes import begins_keyframe

VP8 = {
    "start of a key frame": ("10 00", True),
    "start of a delta frame": ("10 01", False),
    "continuation": ("00 00", False),
    "another partition": ("11 00", False),
    "7-bit picture id": ("90 80 11 00", True),
    "15-bit picture id": ("90 80 91 22 00", True),
    "15-bit picture id, delta": ("90 80 91 22 01", False),
    "picture id, TL0PICIDX and TID": ("90 e0 91 22 05 40 00", True),
    "TID alone, key index alone": ("90 20 40 00", True),
    "non-reference bit": ("30 00", True),
    "extension cut off": ("90", False),
    "picture id cut off": ("90 80", False),
    "nothing after the descriptor": ("90 80 91 22", False),
    "empty": ("", False),
}
H264 = {
    "IDR slice": ("65 88", True),
    "non-IDR slice": ("41 9a", False),
    "SPS": ("67 42", True),
    "PPS": ("68 ce", False),
    "SEI": ("06 05", False),
    "STAP-A of SPS and PPS": ("78 0002 6742 0002 68ce", True),
    "STAP-A of SEI and IDR": ("78 0002 0605 0002 6588", True),
    "STAP-A of slices": ("78 0002 419a 0002 419a", False),
    "STAP-A cut off": ("78 0002", False),
    "STAP-A with a lying size": ("78 ffff 41", False),
    "first fragment of an IDR": ("7c 85 88", True),
    "later fragment of an IDR": ("7c 05 88", False),
    "first fragment of a slice": ("5c 81 9a", False),
    "fragment cut off": ("7c", False),
    "empty": ("", False),
}


@pytest.mark.parametrize(("payload", "begins"), VP8.values(), ids=VP8)
def test_vp8(payload: str, begins: bool) -> None:
    assert begins_keyframe("vp8", bytes.fromhex(payload)) is begins


@pytest.mark.parametrize(("payload", "begins"), H264.values(), ids=H264)
def test_h264(payload: str, begins: bool) -> None:
    assert begins_keyframe("h264", bytes.fromhex(payload)) is begins


@given(st.sampled_from(["vp8", "h264", "opus"]), st.binary(max_size=64))
def test_arbitrary_payloads_never_raise(codec: str, payload: bytes) -> None:
    begins_keyframe(codec, payload)


def test_sound_begins_anywhere() -> None:
    assert begins_keyframe("opus", b"")
