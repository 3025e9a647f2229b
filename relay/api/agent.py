"""The node's session with the control plane: hello, reports, snapshots (node.proto).

Rules:

1. A snapshot is applied whole or, on any fault, not at all; the answer says which (ACK, NACK).
2. The last good one is on disk: a node that starts while the control plane is away serves from it.
3. Nothing here is needed for media to go on. The session is tried again for ever.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc
import structlog
from google.protobuf.message import DecodeError
from thalweg.v1 import node_pb2, node_pb2_grpc

from relay.api import wire
from relay.api.snapshot import Snapshot, SnapshotFile
from relay.api.state import NodeState
from relay.core.backoff import backoff_s
from relay.engines.base import MediaEngine, ParticipantStatus
from relay.transport.clock import cpu_seconds, monotonic
from relay.transport.tls import TlsFiles
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Endpoint, LinkStatus
from relay.trunk.peer_rtt import PeerRtts
from relay.trunk.wire import endpoint_message

log = structlog.get_logger("relay.agent")

_Call = grpc.aio.StreamStreamCall[node_pb2.SessionRequest, node_pb2.SessionResponse]

CHECK_S = 0.1
"""How often to look whether something changed that is worth a report at once: at most ten reports a second."""

SILENCE_S = 15.0
"""Without a snapshot the session is dead: the control plane sends one every 5 s."""

CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    # A new attempt is a new connection, with no back-off of gRPC's own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),  # a snapshot of MAX_LINKS
)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What hello says, as far as it never changes while the process lives."""

    node: str
    region: str
    http_url: str
    media: Endpoint
    trunk_target: str
    version: str
    engine: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agent reads and steers."""

    state: NodeState
    engine: MediaEngine
    trunks: TrunkManager
    rtts: PeerRtts


class _SessionOverError(Exception):
    """The session cannot go on; the text says why."""


class Agent:
    """Speaks for the node; `target` is the control plane's NodeService as host:port."""

    def __init__(
        self,
        introduction: Introduction,
        parts: Parts,
        file: SnapshotFile,
        tls: TlsFiles,
        target: str,
    ) -> None:
        self.connected = False
        """A snapshot came in the session that is open now."""
        self._introduction = introduction
        self._parts = parts
        self._file = file
        self._tls = tls
        self._target = target
        self._kept_version = 0
        self._report_interval_s = wire.DEFAULT_REPORT_S
        self._heard_at = 0.0
        self._complained = ""

    async def run(self) -> None:
        """Start from the snapshot on disk, then keep a session until cancelled."""
        await self._start_from_file()
        failures = 0
        while not self._parts.state.stopping:
            try:
                await self._session()
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {error.details()}"
            except _SessionOverError as error:
                why = str(error)
            else:
                why = "the session ended"
            failures = 0 if self.connected else failures + 1
            self.connected = False
            if why != self._complained:
                self._complained = why
                log.warning("no session with the control plane", target=self._target, why=why)
            await asyncio.sleep(backoff_s(failures, random.random()))  # noqa: S311 - spreads retries

    # --- the session -----------------------------------------------------------------------------

    async def _session(self) -> None:
        """Hold one session until it is over. Raises `_SessionOverError` or AioRpcError, always one of them."""
        async with grpc.aio.secure_channel(
            self._target, self._tls.channel_credentials(), options=CHANNEL_OPTIONS
        ) as channel:
            stream = _Stream(node_pb2_grpc.NodeServiceStub(channel).Session())
            self._heard_at = monotonic()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._watch())
                    await stream.write(node_pb2.SessionRequest(hello=self._hello()))
                    tasks.create_task(self._listen(stream))
                    tasks.create_task(self._report(stream))
            except ExceptionGroup as group:
                # One conversation: the first that fails ends it, and the others say nothing more.
                raise group.exceptions[0] from None
            finally:
                stream.close()

    def _hello(self) -> node_pb2.Hello:
        own = self._introduction
        return node_pb2.Hello(
            node=own.node,
            region=own.region,
            http_url=own.http_url,
            media=endpoint_message(own.media),
            trunk_target=own.trunk_target,
            capacity=self._parts.state.capacity,
            version=own.version,
            engine=own.engine,
            kept_snapshot=self._kept_version,
        )

    async def _watch(self) -> None:
        while True:
            silent_s = monotonic() - self._heard_at
            if silent_s >= SILENCE_S:
                raise _SessionOverError(f"no snapshot for {silent_s:.0f} s")
            await asyncio.sleep(SILENCE_S - silent_s)

    async def _listen(self, stream: "_Stream") -> None:
        async for response in stream.responses():
            self._heard_at = monotonic()
            result = await self._take(response.snapshot)
            await stream.write(node_pb2.SessionRequest(result=result))
            self.connected = True
        raise _SessionOverError("the control plane ended the session")

    async def _report(self, stream: "_Stream") -> None:
        """Report at the rhythm that the snapshot names, and at once when something changed."""
        sequence, due_at, told = 0, 0.0, None
        while True:
            now = monotonic()
            participants = self._parts.engine.participants()
            links = self._parts.trunks.links()
            shape = _shape(participants, links)
            if now >= due_at or shape != told:
                due_at, told = now + self._report_interval_s, shape
                sequence += 1
                rtts = self._parts.rtts.rtts()
                load = self._parts.state.load(len(participants), cpu_seconds(), now)
                report = wire.report_to_wire(sequence, load, participants, links, rtts)
                await stream.write(node_pb2.SessionRequest(report=report))
            await asyncio.sleep(CHECK_S)

    # --- snapshots -------------------------------------------------------------------------------

    async def _take(self, message: node_pb2.Snapshot) -> node_pb2.SnapshotResult:
        """Apply a snapshot and keep it, or refuse it; return the answer."""
        answer = node_pb2.SnapshotResult(version=message.version, nonce=message.nonce)
        try:
            snapshot = wire.snapshot_from_wire(message, self._introduction.node)
        except ValueError as error:
            log.warning("snapshot refused", version=message.version, why=str(error))
            answer.error = str(error)[:500]
            return answer
        self._apply(snapshot)
        kept = node_pb2.Snapshot()
        kept.CopyFrom(message)
        kept.nonce = ""
        try:
            await asyncio.to_thread(self._file.write, kept.SerializeToString(deterministic=True))
            self._kept_version = message.version
        except OSError as error:
            log.warning("snapshot not kept on disk", why=str(error))
        return answer

    def _apply(self, snapshot: Snapshot) -> None:
        parts = self._parts
        if snapshot.draining != parts.state.draining:
            log.info("draining" if snapshot.draining else "taking participants again")
        parts.state.token_keys.replace(snapshot.token_keys)
        parts.state.draining = snapshot.draining
        parts.trunks.desired(snapshot.links, snapshot.peers)
        parts.rtts.desired(snapshot.peers)
        self._report_interval_s = snapshot.report_interval_s
        for ended in snapshot.end_sessions:
            # A token of that epoch may be good for a minute yet, and must not begin what was just ended.
            parts.state.admission.admitted((ended.room, ended.participant), ended.up_to_epoch + 1)
            parts.engine.end_participant(
                ended.room,
                ended.participant,
                up_to_epoch=ended.up_to_epoch,
                reason=ended.reason or "ended by the control plane",
            )

    async def _start_from_file(self) -> None:
        try:
            content = await asyncio.to_thread(self._file.read)
            if content is None:
                return
            message = node_pb2.Snapshot.FromString(content)
            self._apply(wire.snapshot_from_wire(message, self._introduction.node))
        except (OSError, DecodeError, ValueError) as error:
            log.warning(
                "kept snapshot cannot be used: waiting for the control plane", why=str(error)
            )
            return
        self._kept_version = message.version
        log.info("started from the kept snapshot", version=message.version)


class _Stream:
    """The session's call: one write at a time, and one kind of end."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._writing = asyncio.Lock()

    async def write(self, request: node_pb2.SessionRequest) -> None:
        """Send a message. Raises AioRpcError or `_SessionOverError`."""
        async with self._writing:
            try:
                await self._call.write(request)
            except asyncio.InvalidStateError:  # grpc.aio's word for a call that has ended
                raise _SessionOverError("the control plane ended the session") from None

    def responses(self) -> AsyncIterator[node_pb2.SessionResponse]:
        """Return what comes, until the far end ends it. Raises AioRpcError."""
        return aiter(self._call)

    def close(self) -> None:
        """End the call."""
        self._call.cancel()


def _shape(participants: Sequence[ParticipantStatus], links: Sequence[LinkStatus]) -> object:
    """Return what of a report is worth telling at once: who is here with which tracks, which links flow."""
    return (
        {
            (p.room, p.participant, p.epoch, p.slots, tuple(t.info.id for t in p.tracks))
            for p in participants
        },
        {(link.room, link.to_node, link.state, link.tracks) for link in links},
    )
