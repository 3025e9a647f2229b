"""RTP packets as raw bytes (RFC 3550, 8285, 4588): read a field, rewrite a header, never the payload.

A packet stays one `bytes` object on its way through a node; whoever changes it makes a new one. Functions
here trust that `parse` accepted the packet once, at the door.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

FIXED_HEADER = struct.Struct("!BBHII")
_U16 = struct.Struct("!H")
_BLOCK_HEADER = struct.Struct("!HH")

ONE_BYTE_PROFILE = 0xBEDE
"""The header extension profile of RFC 8285, section 4.2."""


class RtpHeader(NamedTuple):
    """The fixed header's fields and where the payload lies."""

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload_start: int
    payload_end: int
    """Without padding."""


def is_rtcp(packet: bytes) -> bool:
    """Tell RTCP from RTP on a shared port (RFC 5761, section 4)."""
    return 192 <= packet[1] <= 223


def parse(packet: bytes) -> RtpHeader | None:
    """Return the header, or None for anything that is not a well-formed RTP packet."""
    if len(packet) < 12 or packet[0] >> 6 != 2:
        return None
    first, second, sequence, timestamp, ssrc = FIXED_HEADER.unpack_from(packet)
    start = 12 + 4 * (first & 0x0F)
    end = len(packet)
    if first & 0x10:
        if start + 4 > end:
            return None
        start += 4 + 4 * int(_U16.unpack_from(packet, start + 2)[0])
    if first & 0x20:
        # The count includes itself (RFC 3550, section 5.1): with 0 it would be read from what comes to stand last.
        end = end - packet[-1] if packet[-1] else -1
    if start > end:
        return None
    return RtpHeader(bool(second & 0x80), second & 0x7F, sequence, timestamp, ssrc, start, end)


def sequence_of(packet: bytes) -> int:
    """Return the sequence number."""
    return packet[2] << 8 | packet[3]


def sequence_delta(later: int, earlier: int) -> int:
    """Return how far `later` is ahead of `earlier` on the 16-bit circle, -32768 to 32767."""
    return ((later - earlier + 0x8000) & 0xFFFF) - 0x8000


def extensions(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield id and value of each one-byte header extension; other profiles yield nothing."""
    if not packet[0] & 0x10:
        return
    offset = 12 + 4 * (packet[0] & 0x0F)
    profile, words = _BLOCK_HEADER.unpack_from(packet, offset)
    if profile != ONE_BYTE_PROFILE:
        return
    position, end = offset + 4, offset + 4 + 4 * words
    while position < end:
        head = packet[position]
        if head == 0:  # padding
            position += 1
            continue
        if head >> 4 == 15:  # RFC 8285, section 4.2: stop at the reserved id
            return
        length = (head & 0x0F) + 1
        if position + 1 + length > end:
            return
        yield head >> 4, packet[position + 1 : position + 1 + length]
        position += 1 + length


def remap_extensions(packet: bytes, new_ids: bytes) -> bytes:
    """Give every one-byte extension the id that the 16 bytes of `new_ids` hold for it, and drop those with 0.

    When none is left the whole block goes, which makes most video packets shorter and later rewriting free.
    Extensions of another profile are dropped: their ids mean nothing here.
    """
    if not packet[0] & 0x10:
        return packet
    kept = b"".join(
        bytes((new_ids[number] << 4 | len(value) - 1,)) + value
        for number, value in extensions(packet)
        if new_ids[number]
    )
    offset = 12 + 4 * (packet[0] & 0x0F)
    rest = packet[offset + 4 + 4 * int(_U16.unpack_from(packet, offset + 2)[0]) :]
    if not kept:
        return bytes((packet[0] & 0xEF,)) + packet[1:offset] + rest
    words = (len(kept) + 3) // 4
    block = _BLOCK_HEADER.pack(ONE_BYTE_PROFILE, words) + kept.ljust(4 * words, b"\0")
    return packet[:offset] + block + rest


def with_header(
    packet: bytes, payload_type: int, sequence: int, timestamp: int, ssrc: int
) -> bytes:
    """Return the packet with these fields; marker, CSRCs, extensions and payload stay."""
    second = packet[1] & 0x80 | payload_type
    return FIXED_HEADER.pack(packet[0], second, sequence, timestamp, ssrc) + packet[12:]


def wrap_rtx(packet: bytes, payload_type: int, sequence: int, ssrc: int) -> bytes:
    """Return a retransmission packet (RFC 4588, section 4) that carries `packet`."""
    header = parse(packet)
    if header is None:
        raise ValueError("not an RTP packet")
    first, second, original, timestamp, _ = FIXED_HEADER.unpack_from(packet)
    return (
        FIXED_HEADER.pack(first, second & 0x80 | payload_type, sequence, timestamp, ssrc)
        + packet[12 : header.payload_start]
        + _U16.pack(original)
        + packet[header.payload_start :]
    )


def unwrap_rtx(packet: bytes, payload_type: int, ssrc: int) -> bytes | None:
    """Return the packet that a retransmission carries, or None if it carries none (padding probes do not)."""
    header = parse(packet)
    if header is None or header.payload_end - header.payload_start < 2:
        return None
    first, second, _, timestamp, _ = FIXED_HEADER.unpack_from(packet)
    original = int(_U16.unpack_from(packet, header.payload_start)[0])
    return (
        FIXED_HEADER.pack(first, second & 0x80 | payload_type, original, timestamp, ssrc)
        + packet[12 : header.payload_start]
        + packet[header.payload_start + 2 :]
    )
