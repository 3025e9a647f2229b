"""A node's Roster (node.proto), read entry by entry.

When one person of a hundred comes or goes, ninety-nine entries are the same bytes as before. So the entries are cut
apart here, and only those that were not in the roster before are given to protobuf: on a day when many people move,
every report brings a new roster.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

PARTICIPANTS, LINKS = 1, 2
"""Numbers of Roster's fields."""

_LEN = 2
"""Wire type of a length-delimited field."""

Made = TypeVar("Made")


def entries(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the field number and the bytes of each entry.

    Raises ValueError for anything but length-delimited fields (protobuf.dev, "Encoding"): a Roster has no others.
    """
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        if tag & 7 != _LEN:
            raise ValueError(f"wire type {tag & 7} at byte {at}")
        size, at = _varint(content, at)
        end = at + size
        if end > len(content):
            raise ValueError(f"an entry of {size} bytes at byte {at} of {len(content)}")
        yield tag >> 3, content[at:end]
        at = end


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 35:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"a number that does not end, before byte {at}")


class Remembered(Generic[Made]):
    """What was made of each entry of the last roster: the same bytes give the same object."""

    def __init__(self, make: Callable[[bytes], Made]) -> None:
        self._make = make
        self._made: dict[bytes, Made] = {}

    def all(self, contents: list[bytes]) -> tuple[Made, ...]:
        """Return what these entries are; whatever is not among them is forgotten. Raises as the maker does."""
        made = {
            content: self._made[content] if content in self._made else self._make(content)
            for content in contents
        }
        self._made = made
        return tuple([made[content] for content in contents])
