"""The only place where a node reads a clock."""

import time

from relay.core.rtcp import NTP_EPOCH


def monotonic() -> float:
    """Return seconds that never go back; what `now` means everywhere on a node."""
    return time.monotonic()


def wall() -> float:
    """Return seconds since 1970."""
    return time.time()  # noqa: TID251 - this is the clock


def cpu_seconds() -> float:
    """Return the processor time that this process has used."""
    return time.process_time()


_NTP_AT_ZERO = wall() - monotonic() + NTP_EPOCH


def ntp() -> float:
    """Return seconds since 1900, as sender reports carry them (RFC 3550, section 4).

    Set once, when the process starts: whoever sets the wall clock later moves no round trip and no lips.
    """
    return monotonic() + _NTP_AT_ZERO
