"""One session with one replica of the control plane, as the node's end sees it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
from thalweg.v1 import node_pb2

from relay.transport.clock import monotonic

Call = grpc.aio.StreamStreamCall[node_pb2.SessionRequest, node_pb2.SessionResponse]


class SessionOverError(Exception):
    """The session cannot go on; the text says why."""


class SessionMovedError(SessionOverError):
    """The node ended the session itself, for a better one."""


class Stream:
    """The session's call: one write at a time, and one kind of end."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._writing = asyncio.Lock()

    async def write(self, request: node_pb2.SessionRequest) -> None:
        """Send a message. Raises AioRpcError or `SessionOverError`."""
        async with self._writing:
            try:
                await self._call.write(request)
            except asyncio.InvalidStateError:  # grpc.aio's word for a call that has ended
                raise SessionOverError("the control plane ended the session") from None

    def responses(self) -> AsyncIterator[node_pb2.SessionResponse]:
        """Return what comes, until the far end ends it. Raises AioRpcError."""
        return aiter(self._call)

    def close(self) -> None:
        """End the call."""
        self._call.cancel()


@dataclass(slots=True, eq=False)
class Line:
    """A session and what became of it. It begins warm, unless the node has no active one."""

    target: str
    """The replica, as host:port."""
    stream: Stream
    certificate: int
    """Version of the certificate that it was opened with."""
    opened_at: float = field(default_factory=monotonic)
    heard_at: float = field(default_factory=monotonic)
    answered: bool = False
    """The replica said something: it is there and takes this node. Untrue again when it is about to end."""
    active: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once, when this becomes the active session."""
    retired: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when another one took its place."""

    async def watch(self, patience: "Patience") -> None:
        """Wait until this is to end: the replica fell silent, or the node goes on with another one.

        Raises `SessionOverError`, always.
        """
        while True:
            silent_s, limit_s = monotonic() - self.heard_at, patience(self)
            if silent_s >= limit_s:
                raise SessionOverError(f"nothing heard for {silent_s:.0f} s")
            try:
                async with asyncio.timeout(min(limit_s - silent_s, LOOK_S)):
                    await self.retired.wait()
            except TimeoutError:
                continue
            raise SessionMovedError("the node goes on with another replica")


LOOK_S = 0.5
"""How often a line looks whether it waited long enough: how long that is changes when another one comes or goes."""


class Patience:
    """How long a replica may be silent, which depends on whether there is another one to go to."""

    SILENCE_S = 15.0
    """With nobody else: the replica may be busy, and a session that begins anew makes it busier. It sends something
    every 3 s at least."""

    HASTE_S = 5.5
    """With a warm session to go on with: a sign of life is missing and the next one overdue. The other replicas take a
    node for lost 6.5 s after its replica froze, so it has to be with one of them by then."""

    CONNECT_S = 3.0
    """The same before the first word: TCP, TLS and the hello are four round trips, 1.2 s on the longest paths."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines

    def __call__(self, line: Line) -> float:
        """Return the longest silence in seconds."""
        if not any(other.answered for other in self._lines if other is not line):
            return self.SILENCE_S
        return self.HASTE_S if line.answered else self.CONNECT_S
