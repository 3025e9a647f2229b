"""Keeps datagrams of strangers from raising in aioice, whose sockets the demo's participants are."""

import struct
from collections.abc import Callable

import aioice.stun

Parse = Callable[[bytes], aioice.stun.Message]

_parse: Parse = aioice.stun.parse_message


def contain_stun_errors() -> None:
    """Make aioice drop STUN that is cut short.

    Its parser raises struct.error and IndexError there, its callers expect ValueError: without this one datagram from
    anybody is a traceback in the log.
    """
    aioice.stun.parse_message = parse_message


def parse_message(data: bytes) -> aioice.stun.Message:
    """Do as aioice.stun.parse_message does. Raises ValueError, and nothing else, for what is no STUN."""
    try:
        return _parse(data)
    except (struct.error, IndexError, KeyError) as error:
        raise ValueError(f"STUN message cannot be read: {error!r}") from error
