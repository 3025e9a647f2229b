"""Who does what, without anybody who decides: rendezvous hashing (Thaler and Ravishankar, 1998).

Each key has a weight with every member, and belongs to the one with the highest. All who know the same members agree.
When a member goes, only its keys move, and they spread over all others.
"""

import hashlib
from collections.abc import Iterable


def owner(key: str, members: Iterable[str]) -> str | None:
    """Return the member that a key belongs to, None without members."""
    return max(members, key=lambda member: (_weight(key, member), member), default=None)


def _weight(key: str, member: str) -> bytes:
    # No CRC: it is linear, and for three members their shares would depend on their names.
    return hashlib.blake2b(f"{member} {key}".encode(), digest_size=8).digest()
