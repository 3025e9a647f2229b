"""The node's sessions with the control plane: hello, reports, snapshots (node.proto).

Rules:

1. A snapshot is applied whole or, on any fault, not at all; the answer says which (ACK, NACK).
2. The last good one is on disk: a node that starts while the control plane is away serves from it.
3. Nothing here is needed for media to go on. A session is tried again for ever.
4. Where there are two replicas, a second session is warm: when the active one breaks, the node says hello there at
   once. What a session is about does not depend on the replica: it begins with everything that there is to say.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import structlog
from google.protobuf.message import DecodeError
from thalweg.v1 import node_pb2, node_pb2_grpc

from relay.api import wire
from relay.api.line import Line, Patience, SessionMovedError, SessionOverError, Stream
from relay.api.snapshot import Snapshot, SnapshotFile
from relay.api.state import NodeState
from relay.core.replicas import Replicas
from relay.engines.base import MediaEngine
from relay.transport.clock import cpu_seconds, monotonic
from relay.transport.tls import Credentials
from relay.trunk.manager import TrunkManager
from relay.trunk.model import Endpoint
from relay.trunk.peer_rtt import PeerRtts
from relay.trunk.wire import endpoint_message
from relay.turn.server import TurnServer

log = structlog.get_logger("relay.agent")

LINES = 2
"""An active session and a warm one."""

CHECK_S = 0.1
"""How often to look whether something changed that is worth a report before its time: after half of it at the soonest,
so that a day on which everything changes brings twice the reports of others, and not twenty times."""

PICK_S = 0.05
"""How often to look whether there is a replica to call, when there was none."""

SETTLED_S = 30.0
"""A replica that came back has to stay this long before nodes that prefer it come back to it: those of a fleet within
as long again, so that they do not come as one."""

SAME_REPLICA = "already-active"
"""How a replica refuses to be both the active and the warm one: it is known by two addresses."""

SAME_REPLICA_S = 10.0
"""Long enough for the active session to have moved elsewhere; two addresses of one replica stay so for ever."""

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
    turn: TurnServer | None = None


class Agent:
    """Speaks for the node; `targets` are NodeServices of the control plane as host:port, one at least."""

    def __init__(
        self,
        introduction: Introduction,
        parts: Parts,
        file: SnapshotFile,
        tls: Credentials,
        targets: Sequence[str],
    ) -> None:
        self.connected = False
        """A snapshot came in the active session."""
        self._introduction = introduction
        self._parts = parts
        self._file = file
        self._tls = tls
        self._replicas = Replicas(introduction.node, targets)
        self._settled_s = SETTLED_S * (1 + random.random())  # noqa: S311 - spreads the fleet
        self._lines: list[Line] = []
        self._active: Line | None = None
        self._patience = Patience(self._lines)
        self._kept_version = 0
        self._report_interval_s = wire.DEFAULT_REPORT_S
        self._complained = ""

    def replicas(self) -> tuple[str, ...]:
        """Return every replica that is known, each as host:port."""
        return self._replicas.known()

    async def run(self) -> None:
        """Start from the snapshot on disk, then keep sessions until cancelled."""
        await self._start_from_file()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(LINES):
                tasks.create_task(self._keep_line())
            tasks.create_task(self._tend())

    # --- which sessions there are ----------------------------------------------------------------

    async def _keep_line(self) -> None:
        """Hold one session after the other, each with a replica that no other line has."""
        while not self._parts.state.stopping:
            target = self._replicas.pick([line.target for line in self._lines], monotonic())
            if target is None:
                await asyncio.sleep(PICK_S)
                continue
            try:
                await self._session(target)
            except SessionMovedError:
                log.info("left a replica for another one", target=target)
                continue
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {error.details()}"
            except SessionOverError as error:
                why = str(error)
            else:
                why = "the session ended"
            self._over(target, why)

    def _over(self, target: str, why: str) -> None:
        now = monotonic()
        if f"{SAME_REPLICA}:" in why:
            self._replicas.avoid(target, SAME_REPLICA_S, now)
            return
        self._replicas.failed(target, random.random(), now)  # noqa: S311 - spreads retries
        if why != self._complained:
            self._complained = why
            log.warning(
                "no session with the control plane" if self._active is None else "no warm session",
                target=target,
                why=why,
            )

    def _choose(self, line: Line | None) -> None:
        """Make this the active session; it says hello at once."""
        self._active = line
        self.connected = False
        if line is not None:
            line.active.set()

    def _move(self, away: Line) -> None:
        """Go on with the other session, if there is one that works."""
        other = next((one for one in self._lines if one is not away and one.answered), None)
        if self._active is away and other is not None:
            log.info("moving to another replica", target=other.target, before=away.target)
            self._choose(other)
            away.retired.set()

    async def _tend(self) -> None:
        """Bring the sessions to the replicas that this node prefers, little by little."""
        while True:
            await asyncio.sleep(1.0)
            self._follow_certificate()
            now = monotonic()
            settled = [one for one in self._lines if now - one.opened_at >= self._settled_s]
            if len(settled) < LINES or self._active not in settled:
                continue
            active, warm = self._active, next(one for one in settled if one is not self._active)
            better = self._replicas.pick([active.target, warm.target], now)
            if self._replicas.is_better(warm.target, active.target):
                self._move(active)
            elif better is not None and self._replicas.is_better(better, warm.target):
                warm.retired.set()

    def _follow_certificate(self) -> None:
        """Begin sessions anew that were opened with the certificate of before, the warm one first."""
        stale = [line for line in self._lines if line.certificate != self._tls.version]
        warm = next((line for line in stale if line is not self._active), None)
        if warm is not None:
            warm.retired.set()
        for line in stale if warm is None else ():
            self._move(line)
            line.retired.set()

    # --- the session -----------------------------------------------------------------------------

    async def _session(self, target: str) -> None:
        """Hold one session until it is over. Raises `SessionOverError` or AioRpcError, always one of them."""
        certificate, credentials = self._tls.version, self._tls.channel_credentials()
        async with grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS) as channel:
            stream = Stream(node_pb2_grpc.NodeServiceStub(channel).Session())
            line = Line(target, stream, certificate)
            self._lines.append(line)
            if self._active is None:
                self._choose(line)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(line.watch(self._patience))
                    tasks.create_task(self._speak(line))
                    tasks.create_task(self._listen(line))
            except ExceptionGroup as group:
                # One conversation: the first that fails ends it, and the others say nothing more.
                raise group.exceptions[0] from None
            finally:
                self._lines.remove(line)
                if self._active is line:
                    warm = next((one for one in self._lines if one.answered), None)
                    self._choose(warm)
                line.stream.close()

    async def _speak(self, line: Line) -> None:
        if not line.active.is_set():
            own = self._introduction
            standby = node_pb2.Standby(node=own.node, region=own.region)
            await line.stream.write(node_pb2.SessionRequest(standby=standby))
            await line.active.wait()
        await line.stream.write(node_pb2.SessionRequest(hello=self._hello()))
        await self._report(line.stream)

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

    async def _listen(self, line: Line) -> None:
        async for response in line.stream.responses():
            line.heard_at = monotonic()
            if not line.answered:
                line.answered = True
                self._replicas.worked(line.target)
            if response.HasField("snapshot") and self._active is line:
                result = await self._take(response.snapshot)
                await line.stream.write(node_pb2.SessionRequest(result=result))
                self.connected = True
            if response.ending:
                self._move(line)
                line.answered = False  # no place to go
        raise SessionOverError("the control plane ended the session")

    async def _report(self, stream: Stream) -> None:
        """Report at the rhythm that the snapshot names, and sooner when something changed."""
        sequence, told_at, told = 0, 0.0, None
        while True:
            now = monotonic()
            participants = self._parts.engine.participants()
            links = self._parts.trunks.links()
            roster = wire.roster_to_wire(participants, links)
            gap_s = self._report_interval_s / (1 if roster == told else 2)
            if told is None or now - told_at >= gap_s:
                told_at, told = now, roster
                sequence += 1
                report = node_pb2.Report(
                    sequence=sequence,
                    load=self._parts.state.load(len(participants), cpu_seconds(), now),
                    rtts=wire.rtts_to_wire(self._parts.rtts.rtts()),
                    roster=roster,
                    figures=wire.figures_to_wire(participants, links),
                )
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
        if parts.turn is not None:
            parts.turn.desired(snapshot.turn)
        self._report_interval_s = snapshot.report_interval_s
        self._replicas.learn(snapshot.control_planes)
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
