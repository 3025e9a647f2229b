"""NodeService: the session of each node with this process.

Rules of this file:

1. The certificate says who a node is; its hello may only repeat it.
2. What goes out is the whole snapshot, on change and every SNAPSHOT_INTERVAL_S whether or not anything
   changed: the same work on a quiet day and on a bad one, and a lost wake costs seconds at most.
3. One session per node: the newest wins, the one before is ended.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog
from grpc.aio import BaseError, ServicerContext
from thalweg.v1 import node_pb2, node_pb2_grpc

from controlplane.adapters import wire
from controlplane.api.context import ApiContext
from controlplane.api.grpc_status import abort
from controlplane.api.identity import require_node
from controlplane.core.model import NodeId
from controlplane.core.session import NodeHello
from controlplane.errors import ConflictError, ControlPlaneError, InvalidInputError
from controlplane.services.fleet import NodeSession

HELLO_TIMEOUT_S = 5.0
"""A node says hello at once; who connects and says nothing does not keep a place."""

SILENCE_S = 15.0
"""Reports come every half second. Long before this the node counts as lost; here only the stream is freed."""

SNAPSHOT_INTERVAL_S = 5.0
"""How long a lost wake can go unnoticed; with a thousand nodes it makes 200 snapshots a second."""

WRITE_TIMEOUT_S = 10.0
"""A node that takes no snapshot for so long does not read; its stream is dropped without a status."""

REPORT_GAP_S = 0.05
"""Reports are taken in at most this often, whatever a node sends; flow control holds back the rest at the node."""

COALESCE_S = 0.02
"""Wakes that come closer together share a snapshot: a room that fills up wakes its nodes with every join."""

log = structlog.get_logger(__name__)

Context = ServicerContext[node_pb2.SessionRequest, node_pb2.SessionResponse]


class NodeSessions:
    """The sessions of nodes with this process; a FleetNotifier."""

    def __init__(self) -> None:
        self._wakes: dict[NodeId, asyncio.Event] = {}
        self.ending = False
        """The process stops: every session ends at its next wake."""
        self.open = 0
        """Streams that are being served, those that have not said hello yet or are just ending among them."""

    def end_all(self) -> None:
        """Let every session end by itself: one that gRPC has to cancel leaves a traceback in the log."""
        self.ending = True
        self.wake(frozenset(self._wakes))

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

    def __len__(self) -> int:
        """Return how many nodes have a session."""
        return len(self._wakes)


@dataclass(slots=True)
class _Session:
    handle: NodeSession
    wake: asyncio.Event
    sent: dict[str, int] = field(default_factory=dict)
    """Nonce → version of the snapshots that wait for an answer; the oldest are dropped."""
    is_over: bool = False
    """The reader has ended; set before a wake."""
    error: ControlPlaneError | None = None
    """What ended it, None when the node left."""


MAX_UNANSWERED = 64
"""Nonces that are remembered; a node that is so far behind is about to be lost anyway."""


class NodeDoor(node_pb2_grpc.NodeServiceServicer):
    """Serves NodeService.Session."""

    def __init__(self, context: ApiContext, sessions: NodeSessions) -> None:
        self._context = context
        self._sessions = sessions

    async def Session(  # type: ignore[override]  # reads and writes by itself instead of yielding
        self, _requests: AsyncIterator[node_pb2.SessionRequest], context: Context
    ) -> None:
        """Serve one node until it leaves, is replaced, or breaks the protocol."""
        self._sessions.open += 1
        try:
            await self._serve(context)
        finally:
            self._sessions.open -= 1

    async def _serve(self, context: Context) -> None:
        try:
            hello = await self._hello(context)
            handle = await self._context.fleet.open(hello)
        except ControlPlaneError as error:
            log.warning(
                "a node was refused", peer=context.peer(), code=error.code, why=error.detail
            )
            await abort(context, error)
        wake = self._sessions.enter(hello.node)
        self._context.metrics.node_sessions.set(len(self._sessions))
        log.info("node connected", node=hello.node, region=hello.region, peer=context.peer())
        try:
            await self._run(context, _Session(handle, wake))
        finally:
            self._sessions.leave(hello.node, wake)
            self._context.metrics.node_sessions.set(len(self._sessions))
            await self._context.fleet.closed(handle)
            log.info("node disconnected", node=hello.node)

    async def _hello(self, context: Context) -> NodeHello:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await _next(context)
        except TimeoutError as error:
            waited = f"no hello came within {HELLO_TIMEOUT_S:.0f} s"
            raise InvalidInputError("hello-missing", waited) from error
        if first is None or first.WhichOneof("body") != "hello":
            raise InvalidInputError("hello-missing", "the first message has to be hello")
        hello = wire.hello_from_wire(first.hello)
        require_node(context.auth_context(), hello.node, hello.region)
        return hello

    async def _run(self, context: Context, session: _Session) -> None:
        """Read and write until either ends. A write is never cancelled: gRPC could send no status after that."""
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read_to_end(context, session))
            try:
                await self._write(context, session)
            except ControlPlaneError as error:
                session.error = error
            reader.cancel()
        if session.error is not None:
            code, why = session.error.code, session.error.detail
            log.warning("session ended", node=session.handle.node, code=code, why=why)
            await abort(context, session.error)

    async def _read_to_end(self, context: Context, session: _Session) -> None:
        try:
            await self._read(context, session)
        except ControlPlaneError as error:
            session.error = error
        session.is_over = True
        session.wake.set()

    async def _read(self, context: Context, session: _Session) -> None:
        loop = asyncio.get_running_loop()
        next_report_at = loop.time()
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    message = await _next(context)
            except TimeoutError as error:
                silent = f"no report for {SILENCE_S:.0f} s"
                raise InvalidInputError("node-silent", silent) from error
            if message is None:
                return
            match message.WhichOneof("body"):
                case "report":
                    await asyncio.sleep(next_report_at - loop.time())
                    next_report_at = loop.time() + REPORT_GAP_S
                    report = wire.report_from_wire(message.report)
                    await self._context.fleet.report(session.handle, report)
                case "result":
                    await self._answered(session, message.result)
                case _:
                    raise InvalidInputError(
                        "unexpected-message", "only report and result follow a hello"
                    )

    async def _answered(self, session: _Session, result: node_pb2.SnapshotResult) -> None:
        answers = self._context.metrics.snapshots
        version = session.sent.pop(result.nonce, None)
        if version is None or version != result.version:
            answers.labels("unknown").inc()  # no line in the log: a node can send any number
            return
        answers.labels("nacked" if result.error else "acked").inc()
        await self._context.fleet.snapshot_result(
            session.handle, version=version, error=result.error
        )

    async def _write(self, context: Context, session: _Session) -> None:
        fleet, node = self._context.fleet, session.handle.node
        while True:
            await _wait(session.wake, SNAPSHOT_INTERVAL_S)
            session.wake.clear()
            if session.is_over or self._sessions.ending:
                return
            if not fleet.is_current(session.handle):
                raise ConflictError("session-replaced", "the node has a newer session")
            snapshot = await fleet.snapshot(node)
            nonce = secrets.token_urlsafe(9)
            session.sent[nonce] = snapshot.version
            while len(session.sent) > MAX_UNANSWERED:
                del session.sent[next(iter(session.sent))]
            message = wire.snapshot_to_wire(snapshot, nonce=nonce)
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await context.write(node_pb2.SessionResponse(snapshot=message))
            self._context.metrics.snapshots.labels("sent").inc()
            await asyncio.sleep(COALESCE_S)


async def _next(context: Context) -> node_pb2.SessionRequest | None:
    """Return the next message, None when the node has ended the stream."""
    try:
        message: object = await context.read()
    except BaseError:  # the server has stopped: nothing more will come
        return None
    return message if isinstance(message, node_pb2.SessionRequest) else None


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    """Return when the event is set or the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return
