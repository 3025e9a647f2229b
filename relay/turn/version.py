"""Which known holes a version of coturn has, and what our configuration does about each. Pure."""

import re
from dataclasses import dataclass

Version = tuple[int, ...]

OLDEST = (4, 6, 1)
"""Debian 12's, with which everything here is tested."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A fault of coturn that was published."""

    id: str
    """CVE or GHSA number; the commit that mended it where there is neither."""
    fixed: Version
    """First version without it."""
    what: str
    closed_by: str | None
    """What of our configuration keeps it shut; None when only a newer coturn does."""
    since: Version = (0,)
    """First version with it."""


HOLES = (
    Hole("CVE-2020-26262", (4, 5, 2), "0.0.0.0 and [::] reach loopback", "every peer is denied"),
    Hole("CVE-2025-69217", (4, 8, 0), "nonces and relay ports can be guessed", None, (4, 6, 3)),
    Hole("CVE-2026-27624", (4, 9, 0), "IPv4-mapped addresses pass the list of denied peers", "all IPv6 is denied"),
    Hole("CVE-2026-43994", (4, 10, 0), "a token of RFC 7635 overflows the stack", "oauth is off"),
    Hole("CVE-2026-40613", (4, 10, 0), "one datagram ends the process on ARM64", None),
    Hole("GHSA-v8hj-2xx7-xmp5", (4, 13, 0), "SQL injection through the admin page", "there is no admin page"),
    Hole("GHSA-4g7c-p5wg-j4hp", (4, 13, 0), "a user name ends the process through Redis", "no Redis, plain user names"),
    Hole("commit ab762f33", (4, 15, 0), "attributes after MESSAGE-INTEGRITY count", "peers are the SFUs, whoever asks"),
    Hole("commit 6c13608c", (4, 16, 0), "ranges of IPv6 are compared byte by byte", "the one range is all of IPv6"),
    Hole("commit 4adbd82e", (4, 17, 0), "EVEN-PORT leaks relay ports: a participant can use them up", None),
)  # fmt: skip


def parse_version(text: str) -> Version | None:
    """Return the version in what `turnserver --version` prints; None when there is none."""
    match = re.search(r"\b(\d{1,4}(?:\.\d{1,4}){1,3})\b", text)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def holes(version: Version) -> tuple[Hole, ...]:
    """Return what is known to be wrong with a version; packagers may have mended some of it."""
    return tuple(hole for hole in HOLES if hole.since <= version < hole.fixed)


def version_text(version: Version) -> str:
    """Return a version as people write it."""
    return ".".join(map(str, version))
