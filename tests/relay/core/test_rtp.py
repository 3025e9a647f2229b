"""RTP as raw bytes: hostile packets are refused, rewriting loses nothing."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from relay.core import rtp
from tests.relay.packets import one_byte_extension, packet

IDENTITY = bytes(range(15)) + b"\0"

values = st.tuples(st.integers(1, 14), st.binary(min_size=1, max_size=16))
blocks = st.lists(values, max_size=4).map(lambda v: one_byte_extension(*v))
packets = st.builds(
    packet,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=1400),
    payload_type=st.integers(0, 127),
    ssrc=st.integers(0, 0xFFFFFFFF),
    marker=st.booleans(),
    csrcs=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    extension=st.just(b"") | blocks,
    padding=st.sampled_from([0, 1, 4, 255]),
)


@given(st.binary(max_size=80), st.booleans())
def test_arbitrary_bytes_never_raise(data: bytes, versioned: bool) -> None:
    if versioned and data:
        data = bytes([data[0] & 0x3F | 0x80]) + data[1:]
    header = rtp.parse(data)
    if header is None:
        return
    assert 12 <= header.payload_start <= header.payload_end <= len(data)
    list(rtp.extensions(data))
    rtp.parse(rtp.remap_extensions(data, IDENTITY))
    rtp.unwrap_rtx(data, 96, 1)
    assert (
        rtp.unwrap_rtx(rtp.wrap_rtx(data, 97, 1, 2), header.payload_type, header.ssrc) is not None
    )


@given(packets, st.integers(0, 1500))
def test_a_truncated_packet_never_raises(whole: bytes, kept: int) -> None:
    cut = whole[:kept]
    if rtp.parse(cut) is not None:
        rtp.remap_extensions(cut, IDENTITY)
        list(rtp.extensions(cut))


@given(packets)
def test_fields_are_read_as_they_were_written(data: bytes) -> None:
    header = rtp.parse(data)
    assert header is not None
    assert rtp.sequence_of(data) == header.sequence
    rewritten = rtp.with_header(data, 100, 7, 8, 9)
    assert rtp.parse(rewritten) == header._replace(
        payload_type=100, sequence=7, timestamp=8, ssrc=9
    )
    assert rewritten[12:] == data[12:]


@given(packets)
def test_remapping_to_the_same_ids_keeps_every_extension_and_the_payload(data: bytes) -> None:
    before, same = rtp.parse(data), rtp.remap_extensions(data, IDENTITY)
    after = rtp.parse(same)
    assert before is not None
    assert after is not None
    assert list(rtp.extensions(same)) == list(rtp.extensions(data))
    assert same[after.payload_start :] == data[before.payload_start :]
    assert after[:5] == before[:5]


@given(packets, st.binary(min_size=16, max_size=16).map(lambda b: bytes(one % 15 for one in b)))
def test_remapping_gives_new_ids_and_drops_the_rest(data: bytes, new_ids: bytes) -> None:
    expected = [(new_ids[n], v) for n, v in rtp.extensions(data) if new_ids[n]]
    changed = rtp.remap_extensions(data, new_ids)
    assert list(rtp.extensions(changed)) == expected
    assert changed[-255:] == data[-255:] or len(data) < 300


def test_an_extension_of_the_two_byte_form_is_dropped_with_its_block() -> None:
    block = struct.pack("!HH", 0x1000, 1) + bytes([1, 1, 0x55, 0])
    changed = rtp.remap_extensions(packet(1, extension=block), IDENTITY)
    assert list(rtp.extensions(changed)) == []
    header = rtp.parse(changed)
    assert header is not None
    assert changed[header.payload_start :] == packet(1)[12:]


def test_the_reserved_id_15_ends_a_block() -> None:
    block = struct.pack("!HH", rtp.ONE_BYTE_PROFILE, 1) + bytes([0xF0, 0x99, 0x10, 0x77])
    data = packet(1, extension=block)
    assert list(rtp.extensions(data)) == []
    assert list(rtp.extensions(rtp.remap_extensions(data, IDENTITY))) == []


@given(packets)
def test_rtx_carries_any_packet_there_and_back(data: bytes) -> None:
    header = rtp.parse(data)
    assert header is not None
    wrapped = rtp.wrap_rtx(data, 97, 4711, 99)
    outer = rtp.parse(wrapped)
    assert outer is not None
    assert (outer.payload_type, outer.sequence, outer.ssrc) == (97, 4711, 99)
    assert (outer.timestamp, outer.marker) == (header.timestamp, header.marker)
    assert rtp.unwrap_rtx(wrapped, header.payload_type, header.ssrc) == data


def test_a_padding_probe_on_the_rtx_stream_carries_nothing() -> None:
    assert rtp.unwrap_rtx(packet(1, payload=b"", padding=255), 96, 7) is None


@given(st.integers(0, 0xFFFF), st.integers(-32768, 32767))
def test_sequence_delta_follows_the_circle(earlier: int, ahead: int) -> None:
    assert rtp.sequence_delta((earlier + ahead) & 0xFFFF, earlier) == ahead


def test_rtcp_is_told_from_rtp_by_its_second_byte() -> None:
    assert all(rtp.is_rtcp(bytes([0x80, kind])) for kind in (200, 201, 202, 203, 205, 206))
    assert not any(rtp.is_rtcp(packet(1, payload_type=pt, marker=True)) for pt in (96, 111, 127))
