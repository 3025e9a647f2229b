"""The file of TURN's master secrets: one a line, the newest first, followed while the process runs.

Putting a line on top rotates: both are delivered to the TURN servers at once, the new one signs after LEAD_S.
Removing a line revokes: what it signed opens no new allocations as soon as the nodes have their next snapshot.
"""

from pathlib import Path

from controlplane.adapters.watched import WatchedFile
from controlplane.core.turn import MAX_MASTERS, TurnMasters

MIN_SECRET = 16
"""Bytes. Every user of TURN sees names and passwords made of it, and may try secrets at leisure."""

_HINT = "make one with `openssl rand -hex 32`"


class TurnSecretFile(WatchedFile[TurnMasters]):
    """A TurnKeeper: the master secrets of the file's last good version."""

    def __init__(self, path: Path) -> None:
        """Read it now. Raises OSError, ValueError with what is wrong, without repeating a secret."""
        super().__init__(path, lambda text: TurnMasters(parse(text), path.stat().st_mtime))

    def masters(self) -> TurnMasters:
        """Return what is in force."""
        return self.value


def parse(text: str) -> tuple[bytes, ...]:
    """Return the secrets of a file; `#` begins a line of comment. Raises ValueError."""
    lines = [line.strip() for line in text.splitlines()]
    secrets = list(dict.fromkeys(line.encode() for line in lines if line and line[0] != "#"))
    if not secrets:
        raise ValueError(f"there is no secret in it; {_HINT}")
    if len(secrets) > MAX_MASTERS:
        raise ValueError(
            f"it has {len(secrets)} secrets: remove the oldest, {MAX_MASTERS} are enough"
        )
    shortest = min(map(len, secrets))
    if shortest < MIN_SECRET:
        raise ValueError(
            f"it has a secret of {shortest} bytes, at least {MIN_SECRET} are needed; {_HINT}"
        )
    return tuple(secrets)
