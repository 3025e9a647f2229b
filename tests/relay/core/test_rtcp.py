"""RTCP: what is built is read again, and nothing that arrives raises."""

from aiortc.rtp import RtcpPacket, RtcpPsfbPacket, RtcpRrPacket, RtcpRtpfbPacket, RtcpSrPacket
from hypothesis import given
from hypothesis import strategies as st

from relay.core import rtcp
from relay.core.rtcp import KeyframeRequest, Nack, ReceiverReport, ReportBlock, SenderReport

u32 = st.integers(0, 0xFFFFFFFF)
block_of = st.builds(
    ReportBlock,
    ssrc=u32,
    fraction_lost=st.integers(0, 255),
    lost=st.integers(-0x800000, 0x7FFFFF),
    highest=u32,
    jitter=u32,
    last_sr=u32,
    delay_since_sr=u32,
)
blocks_of = st.lists(block_of, max_size=31).map(tuple)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    rtcp.parse(data)


@given(
    st.integers(0, 31),
    st.sampled_from([200, 201, 202, 203, 204, 205, 206, 207]),
    st.binary(max_size=120),
    st.integers(0, 40),
    st.booleans(),
)
def test_hostile_packets_of_known_types_never_raise(
    count: int, kind: int, body: bytes, words: int, padded: bool
) -> None:
    first = 0x80 | count | (0x20 if padded else 0)
    rtcp.parse(bytes([first, kind, 0, words]) + body)


@given(u32, st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), u32, u32, u32, blocks_of)
def test_sender_report(
    ssrc: int,
    seconds: int,
    part: int,
    stamp: int,
    packets: int,
    octets: int,
    blocks: tuple[ReportBlock, ...],
) -> None:
    report = SenderReport(ssrc, seconds + part / 65536, stamp, packets, octets, blocks)
    data = rtcp.sender_report(report)
    assert rtcp.parse(data) == [report]
    assert report.middle == (seconds & 0xFFFF) << 16 | part
    [theirs] = RtcpPacket.parse(data)
    assert isinstance(theirs, RtcpSrPacket)
    assert theirs.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF == report.middle
    assert len(theirs.reports) == len(blocks)


@given(u32, blocks_of)
def test_receiver_report(ssrc: int, blocks: tuple[ReportBlock, ...]) -> None:
    data = rtcp.receiver_report(ssrc, blocks)
    assert rtcp.parse(data) == [ReceiverReport(ssrc, blocks)]
    [theirs] = RtcpPacket.parse(data)
    assert isinstance(theirs, RtcpRrPacket)
    assert [one.packets_lost for one in theirs.reports] == [one.lost for one in blocks]


@given(
    st.integers(0, 0xFFFF),
    st.sets(st.integers(0, 999), min_size=1, max_size=rtcp.MAX_NACKED),
)
def test_nack_names_exactly_what_is_missing_also_over_the_wrap(
    start: int, offsets: set[int]
) -> None:
    sequences = [(start + offset) & 0xFFFF for offset in sorted(offsets)]
    data = rtcp.nack(1, 2, sequences)
    assert rtcp.parse(data) == [Nack(1, 2, tuple(sequences))]
    [theirs] = RtcpPacket.parse(data)
    assert isinstance(theirs, RtcpRtpfbPacket)
    assert {lost & 0xFFFF for lost in theirs.lost} == set(sequences)  # aiortc forgets to wrap


def test_one_nack_cannot_ask_for_more_than_the_bound() -> None:
    fci = b"".join((17 * i & 0xFFFF).to_bytes(2, "big") + b"\xff\xff" for i in range(300))
    data = bytes([0x81, 205]) + (2 + 300).to_bytes(2, "big") + bytes(8) + fci
    [nack] = rtcp.parse(data)
    assert isinstance(nack, Nack)
    assert len(nack.sequences) == rtcp.MAX_NACKED


@given(u32, u32)
def test_picture_loss(sender: int, media: int) -> None:
    data = rtcp.picture_loss(sender, media)
    assert rtcp.parse(data) == [KeyframeRequest(sender, media)]
    [theirs] = RtcpPacket.parse(data)
    assert isinstance(theirs, RtcpPsfbPacket)
    assert (theirs.fmt, theirs.media_ssrc) == (1, media)


def test_full_intra_request_names_each_stream() -> None:
    entries = b"".join(ssrc.to_bytes(4, "big") + b"\x01\0\0\0" for ssrc in (5, 6))
    data = bytes([0x84, 206, 0, 6]) + (1).to_bytes(4, "big") + bytes(4) + entries
    assert rtcp.parse(data) == [KeyframeRequest(1, 5), KeyframeRequest(1, 6)]


def test_a_compound_packet_is_read_past_what_is_unknown() -> None:
    app = bytes([0x80, 204, 0, 2]) + b"\0\0\0\x01name"
    transport_cc = bytes([0x8F, 205, 0, 3]) + bytes(12)
    data = (
        rtcp.receiver_report(1, ()) + rtcp.source_description(1, "cname") + app + transport_cc
        + rtcp.picture_loss(1, 2)
    )  # fmt: skip
    assert rtcp.parse(data) == [ReceiverReport(1, ()), KeyframeRequest(1, 2)]


def test_what_follows_a_malformed_part_is_dropped() -> None:
    too_long = bytes([0x80, 201, 0xFF, 0xFF]) + bytes(4)
    data = rtcp.picture_loss(1, 2) + too_long + rtcp.picture_loss(1, 3)
    assert rtcp.parse(data) == [KeyframeRequest(1, 2)]


def test_padding_is_not_payload() -> None:
    unpadded = rtcp.nack(1, 2, [10])
    words = len(unpadded) // 4  # one word of padding more, minus one as RFC 3550 counts
    padded = (
        bytes([unpadded[0] | 0x20, 205]) + words.to_bytes(2, "big") + unpadded[4:] + b"\0\0\0\x04"
    )
    assert rtcp.parse(padded) == [Nack(1, 2, (10,))]


@given(st.text(max_size=300))
def test_source_description_is_aligned_for_any_name(name: str) -> None:
    data = rtcp.source_description(1, name)
    assert len(data) % 4 == 0
    assert rtcp.parse(data) == []
    assert rtcp.parse(data + rtcp.picture_loss(1, 2)) == [KeyframeRequest(1, 2)]


@given(st.integers(0, 10**10), st.lists(u32, max_size=16))
def test_remb_is_near_the_bitrate(bitrate: int, media: list[int]) -> None:
    data = rtcp.receiver_estimated_max_bitrate(1, bitrate, media)
    assert data[12:16] == b"REMB"
    exponent, mantissa = data[17] >> 2, (data[17] & 3) << 16 | data[18] << 8 | data[19]
    assert data[16] == len(media)
    assert bitrate * (1 - 2**-17) - 1 <= mantissa << exponent <= bitrate
