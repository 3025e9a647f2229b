"""RTCP (RFC 3550, 4585, 5104): the packets that an SFU terminates and makes itself on each hop."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SR, RR, SDES, RTPFB, PSFB = 200, 201, 202, 205, 206
NACK_FMT = 1  # of RTPFB
PLI_FMT, FIR_FMT, APPLICATION_FMT = 1, 4, 15  # of PSFB

NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 (NTP) to 1970."""

MAX_NACKED = 500
"""Sequence numbers taken from one NACK: two seconds of a 2 Mbit/s stream, so that one packet cannot ask for more."""

_HEADER = struct.Struct("!BBH")
_BLOCK = struct.Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one stream (RFC 3550, section 6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Of the last interval, in 1/256."""
    lost: int
    """Since the beginning."""
    highest: int
    """Extended highest sequence number."""
    jitter: int
    """In timestamp units."""
    last_sr: int
    """Middle 32 bits of the last sender report's NTP time; 0 for none."""
    delay_since_sr: int
    """In 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What a sender says of its stream."""

    ssrc: int
    ntp_s: float
    """Seconds since 1900 of the sender's clock."""
    timestamp: int
    """The RTP timestamp of that moment."""
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()

    @property
    def middle(self) -> int:
        """The middle 32 bits of the NTP time, as a report block repeats them."""
        return int(self.ntp_s * 65536) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """Report blocks of somebody who sends nothing."""

    ssrc: int
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """A request to send again (RFC 4585, section 6.2.1)."""

    sender: int
    media: int
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyframeRequest:
    """PLI (RFC 4585) or FIR (RFC 5104): the decoder needs a key frame."""

    sender: int
    media: int


Packet = SenderReport | ReceiverReport | Nack | KeyframeRequest


def parse(data: bytes) -> list[Packet]:
    """Return what is understood of a compound packet.

    Unknown types and formats are passed over; what follows a malformed part is dropped. Never raises.
    """
    packets: list[Packet] = []
    position = 0
    while position + 8 <= len(data):
        first, kind, words = _HEADER.unpack_from(data, position)
        end = position + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            break
        body = data[position + 4 : end]
        if first & 0x20 and body:  # padding
            body = body[: max(0, len(body) - body[-1])]
        packets.extend(_parse_one(kind, first & 0x1F, body))
        position = end
    return packets


def _parse_one(kind: int, count: int, body: bytes) -> Iterable[Packet]:
    if kind == SR and len(body) >= 24:
        ssrc, seconds, fraction, timestamp, sent, octets = struct.unpack_from("!IIIIII", body)
        yield SenderReport(
            ssrc, seconds + fraction / 2**32, timestamp, sent, octets, _blocks(body[24:], count)
        )
    elif kind == RR and len(body) >= 4:
        yield ReceiverReport(struct.unpack_from("!I", body)[0], _blocks(body[4:], count))
    elif kind == RTPFB and count == NACK_FMT and len(body) >= 12:
        sender, media = struct.unpack_from("!II", body)
        yield Nack(sender, media, tuple(_nacked(body[8:])))
    elif kind == PSFB and count == PLI_FMT and len(body) >= 8:
        sender, media = struct.unpack_from("!II", body)
        yield KeyframeRequest(sender, media)
    elif kind == PSFB and count == FIR_FMT and len(body) >= 16:
        sender = struct.unpack_from("!I", body)[0]
        for offset in range(8, len(body) - 7, 8):
            yield KeyframeRequest(sender, struct.unpack_from("!I", body, offset)[0])


def _blocks(body: bytes, count: int) -> tuple[ReportBlock, ...]:
    blocks = []
    for index in range(min(count, len(body) // 24)):
        ssrc, lost, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, 24 * index)
        cumulative = lost & 0xFFFFFF
        if cumulative & 0x800000:
            cumulative -= 0x1000000
        blocks.append(ReportBlock(ssrc, lost >> 24, cumulative, highest, jitter, last_sr, delay))
    return tuple(blocks)


def _nacked(fci: bytes) -> list[int]:
    sequences: list[int] = []
    for offset in range(0, len(fci) - 3, 4):
        pid, following = struct.unpack_from("!HH", fci, offset)
        sequences.append(pid)
        sequences.extend((pid + 1 + bit) & 0xFFFF for bit in range(16) if following >> bit & 1)
        if len(sequences) >= MAX_NACKED:
            break
    return sequences[:MAX_NACKED]


def sender_report(report: SenderReport) -> bytes:
    """Serialise a sender report."""
    seconds = int(report.ntp_s)
    fraction = int((report.ntp_s - seconds) * 2**32)
    body = struct.pack(
        "!IIIIII",
        report.ssrc,
        seconds & 0xFFFFFFFF,
        fraction & 0xFFFFFFFF,
        report.timestamp & 0xFFFFFFFF,
        report.packets & 0xFFFFFFFF,
        report.octets & 0xFFFFFFFF,
    )
    return _packet(SR, len(report.blocks), body + _pack_blocks(report.blocks))


def receiver_report(ssrc: int, blocks: Sequence[ReportBlock]) -> bytes:
    """Serialise a receiver report with up to 31 blocks."""
    return _packet(RR, len(blocks), struct.pack("!I", ssrc) + _pack_blocks(blocks))


def _pack_blocks(blocks: Sequence[ReportBlock]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            block.ssrc,
            block.fraction_lost << 24 | max(-0x800000, min(block.lost, 0x7FFFFF)) & 0xFFFFFF,
            block.highest & 0xFFFFFFFF,
            block.jitter & 0xFFFFFFFF,
            block.last_sr,
            block.delay_since_sr & 0xFFFFFFFF,
        )
        for block in blocks
    )


def source_description(ssrc: int, cname: str) -> bytes:
    """Serialise an SDES packet with a CNAME, which every compound packet carries."""
    name = cname.encode()[:255]
    item = struct.pack("!IBB", ssrc, 1, len(name)) + name + b"\0"
    return _packet(SDES, 1, item + bytes(-len(item) % 4))


def nack(sender: int, media: int, sequences: Sequence[int]) -> bytes:
    """Serialise a NACK for sequence numbers in ascending order (modulo 2^16)."""
    fci = bytearray()
    index = 0
    while index < len(sequences):
        pid, bits = sequences[index], 0
        index += 1
        while index < len(sequences) and 1 <= (ahead := (sequences[index] - pid) & 0xFFFF) <= 16:
            bits |= 1 << (ahead - 1)
            index += 1
        fci += struct.pack("!HH", pid, bits)
    return _packet(RTPFB, NACK_FMT, struct.pack("!II", sender, media) + bytes(fci))


def picture_loss(sender: int, media: int) -> bytes:
    """Serialise a PLI."""
    return _packet(PSFB, PLI_FMT, struct.pack("!II", sender, media))


def receiver_estimated_max_bitrate(sender: int, bitrate: int, media: Sequence[int]) -> bytes:
    """Serialise a REMB (draft-alvestrand-rmcat-remb-03); `bitrate` in bit/s."""
    exponent = max(0, bitrate.bit_length() - 18)
    packed = len(media) << 24 | exponent << 18 | bitrate >> exponent
    body = struct.pack("!II4sI", sender, 0, b"REMB", packed)
    return _packet(PSFB, APPLICATION_FMT, body + b"".join(struct.pack("!I", s) for s in media))


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body
