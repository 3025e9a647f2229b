"""Offers: real ones are understood, hostile ones are refused with a code."""

import asyncio
import time
from collections.abc import Callable
from random import Random

import pytest
from aiortc import RTCPeerConnection
from hypothesis import given
from hypothesis import strategies as st

from relay.core.model import AUDIO_LEVEL, VIDEO_ORIENTATION, Codec
from relay.core.sdp import MAX_MEDIA, MAX_SIZE, SdpError, parameters, parse_offer
from tests.relay.api.offers import offer
from tests.relay.core.offers import MINIMAL, recorded

PUBLISH, RECEIVE = recorded("chromium-publish"), recorded("chromium-receive")


def code_of(text: str) -> str:
    with pytest.raises(SdpError) as raised:
        parse_offer(text)
    assert str(raised.value) == raised.value.detail
    return raised.value.code


def test_an_offer_of_chromium_to_publish() -> None:
    offer = parse_offer(PUBLISH)
    assert (offer.ice_ufrag, offer.ice_pwd) == ("p3oR", "qlZIb9BFG3CIXzq0IT6Wilvy")
    assert offer.setup == "actpass"
    assert [name for name, _ in offer.fingerprints] == ["sha-256"]
    audio, video = offer.media
    assert (audio.kind, audio.mid, audio.direction) == ("audio", "0", "sendonly")
    assert audio.codecs[111] == Codec("opus", 48_000, 2, "minptime=10;useinbandfec=1")
    assert audio.extensions[AUDIO_LEVEL] == 1
    assert audio.ssrcs == [3187947106]
    assert next(iter(video.codecs.items())) == (96, Codec("vp8", 90_000))
    assert video.rtx[96] == 97
    assert 97 not in video.codecs
    assert {"nack", "nack pli"} <= video.feedback[96]
    assert video.extensions[VIDEO_ORIENTATION] == 13
    assert video.ssrcs == [3703084795, 3684997747]
    assert video.rtx_ssrcs == {3684997747: 3703084795}


def test_an_offer_of_chromium_to_receive() -> None:
    offer = parse_offer(RECEIVE)
    assert [(m.kind, m.direction) for m in offer.media] == [
        ("video", "recvonly"), ("video", "recvonly"), ("audio", "recvonly"),
    ]  # fmt: skip
    assert not any(media.rejected for media in offer.media)


def test_an_offer_of_aiortc() -> None:
    async def make() -> str:
        peer = RTCPeerConnection()
        for kind in ("video", "audio"):
            peer.addTransceiver(kind, direction="recvonly")
        peer.createDataChannel("chat")
        text = (await peer.createOffer()).sdp
        await peer.close()
        return str(text)

    offer = parse_offer(asyncio.run(make()))
    assert [media.kind for media in offer.media] == ["video", "audio", "application"]
    assert {codec.name for codec in offer.media[0].codecs.values()} == {"vp8", "h264"}


def test_a_small_offer_is_enough() -> None:
    offer = parse_offer(MINIMAL)
    assert [media.mid for media in offer.media] == ["a"]
    assert parse_offer(MINIMAL.replace("\r\n", "\n")) == offer


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "nothing": (lambda _: "", "sdp_malformed"),
    "something else": (lambda _: "{}", "sdp_malformed"),
    "another version": (lambda s: s.replace("v=0", "v=1"), "sdp_malformed"),
    "a line without =": (lambda s: s.replace("s=-", "nonsense"), "sdp_malformed"),
    "too long": (lambda s: s + "a=x\r\n" * (MAX_SIZE // 5), "sdp_malformed"),
    "no m-line": (lambda s: s[: s.index("m=audio")], "sdp_no_media"),
    "an m-line cut off": (lambda s: s.replace("9 UDP/TLS/RTP/SAVPF 111", ""), "sdp_malformed"),
    "a payload type out of range": (lambda s: s.replace("SAVPF 111", "SAVPF 128"), "sdp_malformed"),
    "a payload type that is no number": (lambda s: s.replace("SAVPF 111", "SAVPF x"), "sdp_malformed"),
    "a payload type of other digits": (lambda s: s.replace("SAVPF 111", "SAVPF \u0661"), "sdp_malformed"),
    "a port out of range": (lambda s: s.replace("audio 9", "audio 65536"), "sdp_malformed"),
    "an rtpmap without a rate": (lambda s: s.replace("/48000/2", ""), "sdp_malformed"),
    "an rtpmap with a bad rate": (lambda s: s.replace("48000", "-1"), "sdp_malformed"),
    "an rtpmap with bad channels": (lambda s: s.replace("/2", "/x"), "sdp_malformed"),
    "an ssrc out of range": (lambda s: s + "a=ssrc:4294967296 cname:x\r\n", "sdp_malformed"),
    "no ufrag": (lambda s: s.replace("ice-ufrag", "x"), "sdp_no_ice"),
    "no password": (lambda s: s.replace("ice-pwd", "x"), "sdp_no_ice"),
    "an endless ufrag": (lambda s: s.replace("ice-ufrag:", "ice-ufrag:" + "x" * 60_000), "sdp_no_ice"),
    "a ufrag of two halves": (lambda s: s.replace("ice-ufrag:", "ice-ufrag:x:"), "sdp_no_ice"),
    "a password that is no text": (lambda s: s.replace("ice-pwd:", "ice-pwd:\ud800"), "sdp_no_ice"),
    "no fingerprint": (lambda s: s.replace("fingerprint", "x"), "sdp_no_dtls"),
    "an unknown setup": (lambda s: s.replace("actpass", "holdconn"), "sdp_no_dtls"),
    "two m-lines apart": (lambda s: s + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:b\r\n", "sdp_not_bundled"),
    "one mid twice": (lambda s: s + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:a\r\n", "sdp_malformed"),
    "too many m-lines": (lambda s: s + "m=video 0 x 96\r\n" * MAX_MEDIA, "sdp_malformed"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code"), FAULTS.values(), ids=FAULTS)
def test_a_fault_has_its_code(change: Callable[[str], str], code: str) -> None:
    assert code_of(change(MINIMAL)) == code


def test_an_m_line_that_is_rejected_needs_not_be_in_the_bundle() -> None:
    text = MINIMAL.replace("a=setup", "a=group:BUNDLE a\r\na=setup")
    offer = parse_offer(text + "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:b\r\n")
    assert [media.rejected for media in offer.media] == [False, True]
    bundled = parse_offer(
        PUBLISH.replace("m=video 9", "m=video 0").replace("a=mid:1", "a=mid:1\r\na=bundle-only")
    )
    assert [media.rejected for media in bundled.media] == [False, False]


def test_feedback_for_all_payload_types() -> None:
    offer = parse_offer(PUBLISH.replace("a=rtcp-fb:96 nack\r\n", "a=rtcp-fb:* nack\r\n"))
    assert "nack" in offer.media[1].feedback[98]


def test_format_parameters() -> None:
    assert parameters("Profile-Level-Id=42E01F;packetization-mode=1;;x") == {
        "profile-level-id": "42E01F",
        "packetization-mode": "1",
        "x": "",
    }


@given(st.text())
def test_arbitrary_text_raises_nothing_but_sdp_errors(text: str) -> None:
    _try(text)
    _try("v=0\n" + text)
    _try(MINIMAL + text)


PIECES = sorted({word for line in (PUBLISH + RECEIVE).split("\r\n") for word in line.split()})


@given(
    st.sampled_from([PUBLISH, RECEIVE]),
    st.integers(0, 2**32),
    st.integers(1, 8),
    st.text(max_size=6),
)
def test_mutated_offers_raise_nothing_but_sdp_errors(
    text: str, seed: int, mutations: int, junk: str
) -> None:
    dice = Random(seed)  # noqa: S311
    lines = text.split("\r\n")
    for _ in range(mutations):
        where = dice.randrange(len(lines))
        line = lines[where]
        at = dice.randrange(len(line) + 1)
        lines[where] = dice.choice(
            [
                line[:at], line[:at] + junk + line[at:], line.replace(" ", "", 1), dice.choice(lines),
                line[:2] + dice.choice(PIECES), line + " " + dice.choice(PIECES), line.partition(":")[0] + ":" + junk,
                line.replace("/", "", 1), line + "\r\n" + line,
            ]
        )  # fmt: skip
    _try("\r\n".join(lines))


def _try(text: str) -> None:
    try:
        parse_offer(text)
    except SdpError as error:
        code, detail = error.code, error.detail
    else:
        return
    assert code.startswith("sdp_")
    assert detail


@pytest.mark.parametrize(
    "lines",
    [
        ("a=rtcp-fb:* x\r\n", 2200),
        ("a=ssrc:{} c\r\n", 4000),
        ("a=rtpmap:96 VP8/90000\r\n", 1400),
        ("a=fingerprint:sha-256 {}\r\n", 1400),
        ("a=group:BUNDLE 0\r\n", 1800),
        ("a=extmap:1 urn:{}\r\n", 1800),
    ],
    ids=lambda lines: lines[0].strip(),
)
def test_the_worst_of_64_kib_is_read_in_time(lines: tuple[str, int]) -> None:
    """An offer is answered on the event loop, where calls wait meanwhile."""
    line, count = lines
    text = offer().replace("SAVPF 96", "SAVPF " + " ".join(["96"] * 10_000))
    text += "".join(line.format(number) for number in range(count))
    text = text[:MAX_SIZE]
    began = time.process_time()
    parse_offer(text[: text.rindex("\r\n") + 2])
    assert time.process_time() - began < 0.1
