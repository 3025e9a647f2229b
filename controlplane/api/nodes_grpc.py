"""NodeService: the sessions of nodes with this process.

Rules of this file:

1. The certificate says who a node is; its hello or standby may only repeat it.
2. What goes out is the whole snapshot, on change and every ROUND_S whether or not anything changed, at a rate that
   does not depend on what happens (api/pacing.py). It is looked at anew every SNAPSHOT_INTERVAL_S: a lost wake costs
   seconds at most.
3. One active session per node: the newest wins, the one before is ended. The same for warm ones.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog
from grpc.aio import BaseError, ServicerContext
from thalweg.v1 import node_pb2, node_pb2_grpc

from controlplane.adapters import wire
from controlplane.api.context import ApiContext
from controlplane.api.grpc_status import abort
from controlplane.api.identity import certificate_of, require_node
from controlplane.api.node_sessions import NodeSessions
from controlplane.api.pacing import ROUND_S
from controlplane.core.model import NodeId
from controlplane.core.session import NodeHello, NodeSnapshot
from controlplane.errors import (
    ConflictError,
    ControlPlaneError,
    InvalidInputError,
    UnauthenticatedError,
)
from controlplane.services.fleet import NodeSession

HELLO_TIMEOUT_S = 5.0
"""A node says hello at once; who connects and says nothing does not keep a place."""

SILENCE_S = 15.0
"""Reports come every half second, in large fleets every two. Long before this the node counts as lost; here only the
stream is freed."""

SNAPSHOT_INTERVAL_S = 5.0
"""How long a lost wake can go unnoticed."""

ANEW_EVERY = 12
"""Every so manieth relies on nothing that was planned before: whatever went wrong is right again in a minute."""

KEEPALIVE_S = 3.0
"""A node that got no snapshot for so long, and one that stands by, gets a sign of life. After 5.5 s of nothing the
node goes to its other session (relay/api/line.py)."""

POLL_S = 0.5
"""How often a session looks whether there is a turn to send again what did not change."""

WRITE_TIMEOUT_S = 10.0
"""A node that takes no snapshot for so long does not read; its stream is dropped without a status."""

REPORT_GAP_S = 0.05
"""Reports are taken in at most this often, whatever a node sends; flow control holds back the rest at the node."""

COALESCE_S = 0.02
"""Wakes that come closer together share a snapshot: a room that fills up wakes its nodes with every join."""

ENDING_S = 0.3
"""How long a node that is told that this process ends may take to go to another one; it takes a round trip."""

log = structlog.get_logger(__name__)

Context = ServicerContext[node_pb2.SessionRequest, node_pb2.SessionResponse]


@dataclass(slots=True)
class _Session:
    handle: NodeSession
    wake: asyncio.Event
    certificate_ends_at: float
    """Seconds since 1970."""
    reader: wire.ReportReader = field(default_factory=wire.ReportReader)
    sent: dict[str, int] = field(default_factory=dict)
    """Nonce → version of the snapshots that wait for an answer; the oldest are dropped."""
    read_at: float = 0.0
    """When the node last said something, by the loop's clock."""
    is_over: bool = False
    """The reader has ended; set before a wake."""
    error: ControlPlaneError | None = None
    """What ended it, None when the node left."""


class _Told:
    """What a node was told, and when."""

    def __init__(self, now: float) -> None:
        self.is_news = False
        """There is a snapshot that it does not know."""
        self.looked_at = now - SNAPSHOT_INTERVAL_S * random.random()  # noqa: S311 - spreads the work
        self.sent_at = now
        self._looks = random.randrange(ANEW_EVERY)  # noqa: S311
        self._snapshot: NodeSnapshot | None = None
        self._message = node_pb2.Snapshot()

    def is_anew(self) -> bool:
        """Return whether the next look should rely on nothing that was planned before."""
        self._looks += 1
        return self._looks % ANEW_EVERY == 0

    def look(self, snapshot: NodeSnapshot, now: float) -> None:
        """Take the snapshot as it is now."""
        self.looked_at = now
        if snapshot is not self._snapshot:
            self._snapshot, self.is_news = snapshot, True

    def message(self) -> node_pb2.Snapshot:
        """Return it with a nonce of its own."""
        if self._snapshot is not None and self.is_news:
            self._message = wire.snapshot_to_wire(self._snapshot, nonce="")
            self.is_news = False
        self._message.nonce = secrets.token_urlsafe(9)
        return self._message


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
            if hello is None:
                return
            ends_at = certificate_of(context.auth_context()).ends_at
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
            await self._run(context, _Session(handle, wake, ends_at))
        finally:
            self._sessions.leave(hello.node, wake)
            self._context.metrics.node_sessions.set(len(self._sessions))
            if not self._sessions.ending:
                # A process that stops ended the session itself, which says nothing about the node. Another replica
                # may hear it by now, perhaps one that this process has not heard of yet; what that one wrote stands.
                await self._context.fleet.closed(handle)
            log.info("node disconnected", node=hello.node)

    async def _hello(self, context: Context) -> NodeHello | None:
        """Return the hello with which a session becomes active, None when the node left without one."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await _next(context)
        except TimeoutError as error:
            waited = f"no hello came within {HELLO_TIMEOUT_S:.0f} s"
            raise InvalidInputError("hello-missing", waited) from error
        if first is not None and first.WhichOneof("body") == "standby":
            node, region = wire.standby_from_wire(first.standby)
            require_node(context.auth_context(), node, region)
            first = await self._stand_by(context, node)
            if first is None:
                return None
        if first is None or first.WhichOneof("body") != "hello":
            raise InvalidInputError("hello-missing", "the first message has to be hello or standby")
        hello = wire.hello_from_wire(first.hello)
        require_node(context.auth_context(), hello.node, hello.region)
        return hello

    async def _stand_by(self, context: Context, node: NodeId) -> node_pb2.SessionRequest | None:
        """Keep a warm session until the node says something; None when it is over."""
        event = self._sessions.wait(node)
        gauge = self._context.metrics.node_standbys
        gauge.set(self._sessions.standbys)
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(_next(context))
                reader.add_done_callback(lambda _: event.set())
                while not reader.done() and self._sessions.is_waiting(node, event):
                    ending = self._sessions.ending
                    await _write(context, node_pb2.SessionResponse(ending=ending))
                    if ending:
                        break
                    await _wait(event, KEEPALIVE_S)
                if not reader.done():
                    reader.cancel()
            return None if reader.cancelled() else reader.result()
        finally:
            self._sessions.wait_no_more(node, event)
            gauge.set(self._sessions.standbys)

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
            message = await _next(context)
            if message is None:
                return
            session.read_at = loop.time()
            match message.WhichOneof("body"):
                case "report":
                    if session.read_at < next_report_at:
                        await asyncio.sleep(next_report_at - session.read_at)
                    next_report_at = loop.time() + REPORT_GAP_S
                    report = session.reader.read(message.report)
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

    def _check(self, session: _Session, now: float) -> None:
        """Raise ConflictError, InvalidInputError or UnauthenticatedError when a session may not go on."""
        if not self._context.fleet.is_current(session.handle):
            raise ConflictError("session-replaced", "the node has a newer session")
        if now - session.read_at >= SILENCE_S:
            raise InvalidInputError("node-silent", f"no report for {SILENCE_S:.0f} s")
        if self._context.clock.now() >= session.certificate_ends_at:
            # TLS looks at it when a connection begins. A node that renews comes back with the new one before this.
            raise UnauthenticatedError(
                "certificate-expired", "the certificate that the session began with has ended"
            )

    async def _write(self, context: Context, session: _Session) -> None:
        """Send snapshots when they change and at a fixed rhythm, and signs of life when there is no turn for them."""
        fleet, pace, loop = self._context.fleet, self._sessions.pace, asyncio.get_running_loop()
        session.read_at = loop.time()
        told = _Told(session.read_at)
        while True:
            until_round = told.sent_at + ROUND_S - loop.time()
            await _wait(session.wake, until_round if until_round > 0 else POLL_S)
            # Asked here: it may have been set in the very turn of the loop in which the time was over.
            is_woken = session.wake.is_set()
            session.wake.clear()
            if session.is_over:
                return
            if self._sessions.ending:
                await self._end(context, session)
                return
            now = loop.time()
            self._check(session, now)
            is_due = now - told.looked_at >= SNAPSHOT_INTERVAL_S
            if is_woken or is_due:
                anew = is_due and told.is_anew()
                told.look(await fleet.snapshot(session.handle.node, anew=anew), now)
            if told.is_news:
                await pace.turn()
                if session.wake.is_set() and not session.is_over:
                    # What happened while it waited goes with it.
                    session.wake.clear()
                    told.look(await fleet.snapshot(session.handle.node), now)
            elif now - told.sent_at < ROUND_S or not pace.take():
                if now - told.sent_at >= KEEPALIVE_S:
                    await _write(context, node_pb2.SessionResponse())
                    told.sent_at = now
                continue
            await self._send(context, session, told)
            await asyncio.sleep(COALESCE_S)

    async def _send(self, context: Context, session: _Session, told: "_Told") -> None:
        message = told.message()
        session.sent[message.nonce] = message.version
        while len(session.sent) > MAX_UNANSWERED:
            del session.sent[next(iter(session.sent))]
        await _write(context, node_pb2.SessionResponse(snapshot=message))
        self._context.metrics.snapshots.labels("sent").inc()
        told.sent_at = asyncio.get_running_loop().time()

    async def _end(self, context: Context, session: _Session) -> None:
        """Tell the node that this process stops, and wait a moment for it to leave."""
        await _write(context, node_pb2.SessionResponse(ending=True))
        until = asyncio.get_running_loop().time() + ENDING_S
        while not session.is_over and asyncio.get_running_loop().time() < until:
            await _wait(session.wake, ENDING_S)
            session.wake.clear()


async def _write(context: Context, response: node_pb2.SessionResponse) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await context.write(response)


async def _next(context: Context) -> node_pb2.SessionRequest | None:
    """Return the next message, None when the node has ended the stream."""
    try:
        message: object = await context.read()
    except BaseError:  # the server has stopped: nothing more will come
        return None
    return message if isinstance(message, node_pb2.SessionRequest) else None


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    """Return when the event is set or the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
