"""Programs for the kernel's packet filter (classic BPF, Linux socket(7)), which sorts datagrams before any is queued.

A socket's queue is what a flood takes away from calls: whatever reads it, packets of clients wait behind junk or find
no room. So datagrams of known sources go to a queue of their own, and of what strangers send only what may begin
something is queued at all. The rest costs this process nothing.
"""

import ipaddress
import struct
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

STRANGERS, KNOWN = 0, 1
"""Which socket of the pair. A load beyond the packet's end makes a program return 0: then it is a stranger's."""

MAX_KEYS = 1024
"""Sources that one program tells apart; its size stays below 20 KB, what every kernel allows a socket
(`net.core.optmem_max`). A node of one core has a hundred participants with two or three sources each."""

_NETWORK = 0xFFF0_0000  # SKF_NET_OFF: offsets from here on count from the IP header
_UDP_HEADER = 8
_COOKIE = 0x2112A442
_ANY = 0xFFFF_FFFF
_SPREAD = 0x9E37_79B1
"""Odd, with bits all over: ports that are neighbours get keys far apart."""

_LEAF = 16
"""Keys that are compared one by one; jumps on a condition reach 255 instructions far."""

# linux/bpf_common.h, as far as it is used here.
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _LOAD_LENGTH, _LOAD_KEPT = 0x20, 0x28, 0x30, 0x80, 0x60
_KEEP, _TO_X, _RETURN, _JUMP = 0x02, 0x07, 0x06, 0x05
_IF_EQUAL, _IF_EQUAL_X, _IF_AT_LEAST = 0x15, 0x1D, 0x35
_AND, _ADD, _MULTIPLY, _XOR_X = 0x54, 0x04, 0x24, 0xAC


class Instruction(NamedTuple):
    """`struct sock_filter`: what to do, how many to skip if a condition holds or not, and an operand."""

    code: int
    if_true: int = 0
    if_false: int = 0
    operand: int = 0


Program = Sequence[Instruction]


def packed(program: Program) -> bytes:
    """Return a program as the kernel takes it."""
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def stun_only(kind: int) -> Program:
    """Return a filter that queues only what looks like a STUN message of this type (RFC 8489, section 5)."""
    return (
        Instruction(_LOAD_HALF, operand=_UDP_HEADER),
        Instruction(_IF_EQUAL, 0, 7, kind),
        Instruction(_LOAD_WORD, operand=_UDP_HEADER + 4),
        Instruction(_IF_EQUAL, 0, 5, _COOKIE),
        Instruction(_LOAD_HALF, operand=_UDP_HEADER + 2),
        Instruction(_ADD, operand=_UDP_HEADER + 20),
        Instruction(_TO_X),
        Instruction(_LOAD_LENGTH),
        Instruction(_IF_EQUAL_X, 1, 0),
        Instruction(_RETURN, operand=0),
        Instruction(_RETURN, operand=_ANY),
    )


def rtp_only() -> Program:
    """Return a filter that queues only what looks like RTP or RTCP (RFC 7983, section 7)."""
    return (
        Instruction(_LOAD_BYTE, operand=_UDP_HEADER),
        Instruction(_AND, operand=0xC0),
        Instruction(_IF_EQUAL, 0, 2, 0x80),
        Instruction(_LOAD_LENGTH),
        Instruction(_IF_AT_LEAST, 1, 0, _UDP_HEADER + 12),
        Instruction(_RETURN, operand=0),
        Instruction(_RETURN, operand=_ANY),
    )


@lru_cache(maxsize=4 * MAX_KEYS)  # asked for all sources whenever one comes or goes
def source_key(host: str, port: int) -> int:
    """Return 32 bits that stand for a source. Others may share them: a socket's reader has to look again."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    folded = 0
    for (word,) in struct.iter_unpack("!I", address.packed):
        folded ^= word
    return folded ^ port * _SPREAD & _ANY


def by_source(keys: Collection[int]) -> Program:
    """Return a program that says KNOWN for datagrams whose source has one of these keys, STRANGERS for others.

    With more than MAX_KEYS it says KNOWN for everything but STUN requests, which is what strangers begin with.
    """
    if len(keys) > MAX_KEYS:
        return (
            Instruction(_LOAD_HALF),
            Instruction(_IF_EQUAL, 0, 1, 0x0001),
            Instruction(_RETURN, operand=STRANGERS),
            Instruction(_RETURN, operand=KNOWN),
        )
    return (*_KEY_OF_PACKET, *_search(sorted(keys)))


_KEY_OF_PACKET: Program = (
    Instruction(_LOAD_BYTE, operand=_NETWORK),
    Instruction(
        _IF_EQUAL, 0, 4, 0x45
    ),  # IPv4; with options, which no client sends, it is a stranger's
    Instruction(_LOAD_WORD, operand=_NETWORK + 12),
    Instruction(_KEEP),
    Instruction(_LOAD_HALF, operand=_NETWORK + 20),
    Instruction(_JUMP, operand=19),
    Instruction(_AND, operand=0xF0),
    Instruction(_IF_EQUAL, 1, 0, 0x60),  # IPv6
    Instruction(_RETURN, operand=STRANGERS),
    Instruction(_LOAD_BYTE, operand=_NETWORK + 6),
    Instruction(
        _IF_EQUAL, 1, 0, 17
    ),  # UDP follows at once; with extension headers it is a stranger's
    Instruction(_RETURN, operand=STRANGERS),
    Instruction(_LOAD_WORD, operand=_NETWORK + 8),
    Instruction(_TO_X),
    Instruction(_LOAD_WORD, operand=_NETWORK + 12),
    Instruction(_XOR_X),
    Instruction(_TO_X),
    Instruction(_LOAD_WORD, operand=_NETWORK + 16),
    Instruction(_XOR_X),
    Instruction(_TO_X),
    Instruction(_LOAD_WORD, operand=_NETWORK + 20),
    Instruction(_XOR_X),
    Instruction(_KEEP),
    Instruction(_LOAD_HALF, operand=_NETWORK + 40),
    Instruction(_JUMP, operand=0),
    # Both: the source port is in A, the folded address is kept.
    Instruction(_MULTIPLY, operand=_SPREAD),
    Instruction(_TO_X),
    Instruction(_LOAD_KEPT),
    Instruction(_XOR_X),
)


def _search(keys: Sequence[int]) -> list[Instruction]:
    """Return a binary search for A among sorted keys."""
    if len(keys) <= _LEAF:
        compare = [Instruction(_IF_EQUAL, len(keys) - at, 0, key) for at, key in enumerate(keys)]
        return [
            *compare,
            Instruction(_RETURN, operand=STRANGERS),
            Instruction(_RETURN, operand=KNOWN),
        ]
    middle = len(keys) // 2
    below, above = _search(keys[:middle]), _search(keys[middle:])
    # The jump that depends on nothing reaches any distance.
    return [
        Instruction(_IF_AT_LEAST, 0, 1, keys[middle]),
        Instruction(_JUMP, operand=len(below)),
        *below,
        *above,
    ]
