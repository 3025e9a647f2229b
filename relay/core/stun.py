"""STUN Binding requests and answers (RFC 8489), as far as ICE-lite and round-trip measurement need them.

A hostile datagram gives None, never an exception: this is the first code that an unauthenticated packet meets.
"""

import hashlib
import hmac
import ipaddress
import struct
import zlib
from dataclasses import dataclass

BINDING_REQUEST = 0x0001
BINDING_SUCCESS = 0x0101
_COOKIE = 0x2112A442
_HEADER = struct.Struct("!HHI12s")
_FINGERPRINT_XOR = 0x5354554E
_PEER_REFLEXIVE_PRIORITY = 110 << 24 | 65535 << 8 | 255  # RFC 8445, section 5.1.2

USERNAME = 0x0006
MESSAGE_INTEGRITY = 0x0008
XOR_MAPPED_ADDRESS = 0x0020
PRIORITY = 0x0024
USE_CANDIDATE = 0x0025
PADDING = 0x0026  # RFC 5780, section 7.6
FINGERPRINT = 0x8028
ICE_CONTROLLED = 0x8029

MAX_SIZE = 548
"""Bytes. RFC 8489, section 6.1 keeps STUN below the smallest MTU."""


@dataclass(frozen=True, slots=True)
class Message:
    """A STUN message whose form is right; nothing of it is authenticated yet."""

    kind: int
    transaction: bytes
    attributes: dict[int, bytes]
    """The first of each type, up to MESSAGE-INTEGRITY; later ones are not covered by it."""
    integrity_at: int | None
    """Where MESSAGE-INTEGRITY begins in the datagram."""
    datagram: bytes

    def authentic(self, password: str) -> bool:
        """Tell whether MESSAGE-INTEGRITY (HMAC-SHA1, section 14.5) was made with this password."""
        if self.integrity_at is None:
            return False
        covered = bytearray(self.datagram[: self.integrity_at])
        struct.pack_into("!H", covered, 2, self.integrity_at - 20 + 24)
        expected = hmac.new(password.encode(), covered, hashlib.sha1).digest()
        return hmac.compare_digest(expected, self.attributes[MESSAGE_INTEGRITY])

    @property
    def username(self) -> str:
        """USERNAME, empty if there is none or it is not ASCII."""
        value = self.attributes.get(USERNAME, b"")
        return value.decode() if value.isascii() else ""


def parse(datagram: bytes) -> Message | None:
    """Return the message, or None if the datagram is not well-formed STUN."""
    if not 20 <= len(datagram) <= MAX_SIZE:
        return None
    kind, length, cookie, transaction = _HEADER.unpack_from(datagram)
    if cookie != _COOKIE or length != len(datagram) - 20 or length % 4:
        return None
    attributes: dict[int, bytes] = {}
    integrity_at = None
    position = 20
    while position < len(datagram):
        number, size = struct.unpack_from("!HH", datagram, position)
        end = position + 4 + size
        if end > len(datagram):
            return None
        if integrity_at is None:
            attributes.setdefault(number, datagram[position + 4 : end])
            if number == MESSAGE_INTEGRITY:
                if size != 20:
                    return None
                integrity_at = position
        position = end + (-size % 4)
    return Message(kind, transaction, attributes, integrity_at, datagram)


def binding_request(transaction: bytes, *, size: int) -> bytes:
    """Return a Binding request padded to `size` bytes, a multiple of four and at least 24."""
    return _message(BINDING_REQUEST, transaction, [(PADDING, bytes(size - 24))])


def binding_success(
    transaction: bytes, source: tuple[str, int], password: str | None = None
) -> bytes:
    """Return the answer to a request from `source`, signed and with a fingerprint if there is a password."""
    mapped = (XOR_MAPPED_ADDRESS, _xor_address(source, transaction))
    if password is None:
        return _message(BINDING_SUCCESS, transaction, [mapped])
    return _signed(BINDING_SUCCESS, transaction, [mapped], password)


def connectivity_check(transaction: bytes, username: str, password: str) -> bytes:
    """Return the Binding request of a controlled ICE agent (RFC 8445, section 7.1), authentic by `password`.

    The tie-breaker is 0, with which no other agent ever takes the controlled role from us (section 7.3.1.1).
    """
    attributes = [
        (USERNAME, username.encode()),
        (PRIORITY, struct.pack("!I", _PEER_REFLEXIVE_PRIORITY)),
        (ICE_CONTROLLED, bytes(8)),
    ]
    return _signed(BINDING_REQUEST, transaction, attributes, password)


def _signed(
    kind: int, transaction: bytes, attributes: list[tuple[int, bytes]], password: str
) -> bytes:
    """Serialise with MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489, sections 14.5 and 14.7)."""
    unsigned = _message(kind, transaction, attributes, more=24)
    signature = hmac.new(password.encode(), unsigned, hashlib.sha1).digest()
    signed = [*attributes, (MESSAGE_INTEGRITY, signature)]
    covered = _message(kind, transaction, signed, more=8)
    fingerprint = struct.pack("!I", zlib.crc32(covered) ^ _FINGERPRINT_XOR)
    return _message(kind, transaction, [*signed, (FINGERPRINT, fingerprint)])


def _message(
    kind: int, transaction: bytes, attributes: list[tuple[int, bytes]], *, more: int = 0
) -> bytes:
    """Serialise; `more` is the size of attributes that the length counts and that are yet to come."""
    body = b"".join(
        struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4)
        for number, value in attributes
    )
    return _HEADER.pack(kind, len(body) + more, _COOKIE, transaction) + body


def _xor_address(source: tuple[str, int], transaction: bytes) -> bytes:
    address = ipaddress.ip_address(source[0].partition("%")[0])
    mask = struct.pack("!I", _COOKIE) + transaction
    masked = bytes(a ^ b for a, b in zip(address.packed, mask, strict=False))
    family = 1 if address.version == 4 else 2
    return struct.pack("!BBH", 0, family, source[1] ^ _COOKIE >> 16) + masked
