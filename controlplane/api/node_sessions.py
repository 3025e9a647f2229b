"""The sessions of nodes with this process: who is to be woken, who stands by, and at what rate all are served."""

import asyncio
import time

from controlplane.api.pacing import Pace
from controlplane.core.model import NodeId
from controlplane.errors import ConflictError, UnavailableError

MAX_STANDBYS = 10_000
"""Warm sessions: ten times the nodes that one process can hear."""


class NodeSessions:
    """The sessions of nodes with this process; a FleetNotifier."""

    def __init__(self) -> None:
        self._wakes: dict[NodeId, asyncio.Event] = {}
        self._standbys: dict[NodeId, asyncio.Event] = {}
        self.ending = False
        """The process stops: every session ends at its next wake."""
        self.pace = Pace(lambda: len(self), time.monotonic)
        self.open = 0
        """Streams that are being served, those that have not said hello yet or are just ending among them."""

    def end_all(self) -> None:
        """Let every session end by itself: one that gRPC has to cancel leaves a traceback in the log."""
        self.ending = True
        for event in (*self._wakes.values(), *self._standbys.values()):
            event.set()

    def wake(self, nodes: frozenset[NodeId]) -> None:
        """Ask for fresh snapshots to these nodes, soon; nodes of other processes are not known here."""
        for node in nodes:
            if node in self._wakes:
                self._wakes[node].set()

    def enter(self, node: NodeId) -> asyncio.Event:
        """Return the event of a new session; the session before it is woken to find out."""
        before = self._wakes.get(node)
        self._wakes[node] = wake = asyncio.Event()
        wake.set()
        if before is not None:
            before.set()
        return wake

    def leave(self, node: NodeId, wake: asyncio.Event) -> None:
        """Forget a session, unless a newer one took its place."""
        if self._wakes.get(node) is wake:
            del self._wakes[node]

    def wait(self, node: NodeId) -> asyncio.Event:
        """Return the event of a new warm session, which is set when it has to look whether it goes on.

        Raises ConflictError ("already-active"), UnavailableError ("too-many-standbys").
        """
        if node in self._wakes:
            raise ConflictError(
                "already-active",
                "the active session of this node is with this very replica",
                "a warm one belongs to another replica",
            )
        before = self._standbys.get(node)
        if before is not None:
            before.set()
        elif len(self._standbys) >= MAX_STANDBYS:
            raise UnavailableError("too-many-standbys", f"{MAX_STANDBYS} nodes stand by already")
        self._standbys[node] = event = asyncio.Event()
        return event

    def is_waiting(self, node: NodeId, event: asyncio.Event) -> bool:
        """Return whether this is still the node's warm session."""
        return self._standbys.get(node) is event

    def wait_no_more(self, node: NodeId, event: asyncio.Event) -> None:
        """Forget a warm session, unless a newer one took its place."""
        if self._standbys.get(node) is event:
            del self._standbys[node]

    @property
    def standbys(self) -> int:
        """How many nodes have a warm session."""
        return len(self._standbys)

    def __len__(self) -> int:
        """Return how many nodes have an active session."""
        return len(self._wakes)
