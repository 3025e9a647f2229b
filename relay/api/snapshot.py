"""The orders of the control plane in plain form, and how the last good ones are kept."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.trunk.model import Link, Peer
from relay.turn.model import TurnOrders


@dataclass(frozen=True, slots=True)
class EndedSession:
    """Sessions of a participant that have to end."""

    room: str
    participant: str
    up_to_epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole desired state of this node, already checked."""

    version: int
    links: tuple[Link, ...]
    """Each has this node at one end and one of `peers` at the other."""
    peers: tuple[Peer, ...]
    token_keys: Mapping[str, bytes]
    draining: bool
    end_sessions: tuple[EndedSession, ...]
    report_interval_s: float
    control_planes: tuple[str, ...] = ()
    """Where the replicas of the control plane that live answer, as host:port."""
    turn: TurnOrders | None = None
    """For the TURN server beside this node; None when the region has none."""


class SnapshotFile:
    """The last good snapshot on disk, as it came; a node starts from it when the control plane is away."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "snapshot.pb"
        self._written: bytes | None = None

    def read(self) -> bytes | None:
        """Return what was kept, or None. Raises OSError when it is there and cannot be read."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        """Keep this, unless it is what was written last. All or nothing: a crash leaves the one before.

        Raises OSError. Blocks: call it in a thread.
        """
        if content == self._written:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._written = content
