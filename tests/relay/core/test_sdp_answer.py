"""Answers: a real client takes them, and codecs match only where they can be decoded."""

import aiortc.sdp
import pytest

from relay.core.model import Codec
from relay.core.sdp import OfferedMedia, parse_offer
from relay.core.sdp_answer import AnsweredMedia, LocalTransport, answer, matching, supported
from tests.relay.core.offers import MINIMAL, recorded
from tests.relay.packets import H264, OPUS, VP8

FINGERPRINT = ":".join(["AB"] * 32)
LOCAL = LocalTransport("192.0.2.1", 5000, "ufrag", 22 * "p", FINGERPRINT, "passive", 7, "cname")


def h264(profile: str, mode: str = "1") -> Codec:
    return Codec("h264", 90_000, 0, f"packetization-mode={mode};profile-level-id={profile}")


def offered(*codecs: Codec) -> OfferedMedia:
    return OfferedMedia("video", "0", codecs=dict(enumerate(codecs, 96)))


@pytest.mark.parametrize(
    ("codec", "forwarded"),
    [
        (VP8, True),
        (OPUS, True),
        (h264("42e01f"), True),
        (h264("42e01f", "0"), False),
        (Codec("h264", 90_000), False),
        (Codec("vp9", 90_000), False),
        (Codec("av1", 90_000), False),
        (Codec("g722", 8000), False),
        (Codec("vp8", 1000), False),
        (Codec("opus", 8000), False),
    ],
)
def test_what_is_forwarded(codec: Codec, forwarded: bool) -> None:
    assert supported(codec) is forwarded


def test_h264_matches_by_profile_and_mode() -> None:
    media = offered(VP8, h264("42001f", "0"), h264("640032"), h264("42001f"), h264("4D001F"))
    assert matching(media, VP8) == 96
    assert matching(media, h264("42e034")) == 99  # baseline of another level
    assert matching(media, h264("4d0020")) == 100
    assert matching(media, h264("640032")) == 98
    assert matching(media, h264("f4001f")) == 98  # no such profile: the first that may do
    assert matching(offered(VP8), H264) is None
    assert matching(offered(h264("42001f", "0")), H264) is None


def test_chromiums_h264_finds_itself() -> None:
    _, video = parse_offer(recorded("chromium-publish")).media
    for pt, codec in video.codecs.items():
        if supported(codec) and codec.name != "h264":
            assert matching(video, codec) == pt
    assert [matching(video, h264(p)) for p in ("42e01f", "42001f", "4d001f")] == [102, 102, 116]


def answered(offer: str, ssrc: int | None = None) -> str:
    """Answer as the engine does: everything that is supported, the rest rejected."""
    media = []
    for number, one in enumerate(parse_offer(offer).media):
        accepted = [pt for pt, codec in one.codecs.items() if supported(codec)]
        line = AnsweredMedia(one, "sendonly" if ssrc else "recvonly", accepted, one.extensions)
        if ssrc and accepted:
            line.ssrc, line.msid = ssrc + number, f"s-{number} t-{number}"
            line.rtx_ssrc = ssrc + 100 + number if one.rtx else None
        media.append(line)
    return answer(media, LOCAL)


@pytest.mark.parametrize("name", ["chromium-publish", "chromium-receive"])
def test_an_answer_is_read_as_it_was_meant(name: str) -> None:
    text = answered(recorded(name), 1000)
    assert text.endswith("\r\n")
    parsed = aiortc.sdp.SessionDescription.parse(text)
    asked = parse_offer(recorded(name)).media
    assert [media.kind for media in parsed.media] == [media.kind for media in asked]
    for number, (media, original) in enumerate(zip(parsed.media, asked, strict=True)):
        assert (media.port, media.host) == (5000, "192.0.2.1")
        assert media.rtp.muxId == original.mid
        assert media.ice is not None
        assert media.dtls is not None
        assert media.ice.iceLite
        assert media.ice.usernameFragment == "ufrag"
        assert media.ice_candidates_complete
        assert [c.port for c in media.ice_candidates] == [5000]
        assert media.dtls.role == "server"
        assert media.dtls.fingerprints[0].value == FINGERPRINT
        assert media.rtcp_mux
        assert media.ssrc[0].ssrc == 1000 + number
        codecs = {codec.payloadType: codec for codec in media.rtp.codecs}
        for pt, codec in original.codecs.items():
            assert (pt in codecs) is supported(codec)
        for main, rtx in original.rtx.items():
            if main in codecs:
                assert codecs[rtx].parameters == {"apt": main}
        assert {e.uri: e.id for e in media.rtp.headerExtensions} == original.extensions


def test_the_spelling_of_codecs_is_the_registered_one() -> None:
    text = answered(recorded("chromium-publish"))
    assert "a=rtpmap:96 VP8/90000" in text
    assert "a=rtpmap:102 H264/90000" in text
    assert "a=rtpmap:111 opus/48000/2" in text
    assert "transport-cc" not in text


def test_an_ipv6_address_is_written_as_one() -> None:
    media = parse_offer(recorded("chromium-publish")).media
    local = LocalTransport("2001:db8::1", 5000, "u", "p", FINGERPRINT, "active", 7, "c")
    text = answer([AnsweredMedia(media[0], "recvonly", [111])], local)
    assert "c=IN IP6 2001:db8::1\r\n" in text
    assert "a=setup:active\r\n" in text


def test_a_line_without_a_common_codec_is_rejected_and_leaves_the_bundle() -> None:
    media = parse_offer(recorded("chromium-receive")).media
    lines = [AnsweredMedia(one, "inactive") for one in media]
    lines[1] = AnsweredMedia(media[1], "sendonly", [next(iter(media[1].codecs))])
    parsed = aiortc.sdp.SessionDescription.parse(answer(lines, LOCAL))
    assert [(one.kind, one.port) for one in parsed.media] == [
        ("video", 0), ("video", 5000), ("audio", 0),
    ]  # fmt: skip
    assert [group.items for group in parsed.group] == [[media[1].mid]]


def test_a_data_channel_is_rejected() -> None:
    offer = MINIMAL.replace(
        "m=audio", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\nm=audio"
    )
    media = parse_offer(offer.replace("a=setup", "a=group:BUNDLE a d\r\na=setup")).media
    text = answer(
        [AnsweredMedia(media[0], "inactive"), AnsweredMedia(media[1], "recvonly", [111])], LOCAL
    )
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n" in text
    assert "a=group:BUNDLE a\r\n" in text


def test_reduced_size_rtcp_is_for_those_who_offer_it() -> None:
    text = recorded("chromium-publish")
    assert "a=rtcp-rsize" in answered(text)
    assert "a=rtcp-rsize" not in answered(
        text.replace("a=rtcp-rsize\r\n", "").replace("a=rtcp-rsize\n", "")
    )
