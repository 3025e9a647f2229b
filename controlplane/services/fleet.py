"""The fleet: nodes come, report, fall silent, drain; their participants are moved when they are lost.

Which states there are and when silence means something is core/liveness.py's; this keeps the sessions, writes what
changed, says so in events, and moves people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from controlplane.core.liveness import SILENT_LOST_S, NodeEvent, due, step
from controlplane.core.load import reported_load
from controlplane.core.model import Assignment, Node, NodeId, NodeState
from controlplane.core.session import EndSession, NodeHello, NodeReport, NodeSnapshot
from controlplane.errors import ConflictError, InvalidInputError
from controlplane.services.emptying import Drain, Emptier, Leaving, WayOut, check_drain, way_out
from controlplane.services.moving import Move, Mover
from controlplane.services.placements import Placements
from controlplane.services.ports import Clock, FleetNotifier
from controlplane.services.presence import Presence
from controlplane.services.refusals import no_node, not_drainable
from controlplane.services.reports import link_statuses, registered
from controlplane.services.session_rtts import SessionRtts
from controlplane.services.snapshots import Snapshots
from controlplane.services.topologies import Topologies
from controlplane.services.world import MeshRtts
from controlplane.store.base import Store

log = structlog.get_logger(__name__)

FORGET_LOST_S = 600.0
"""A lost node stays listed this long, for the operator who looks why, and keeps the live people whom nobody can take:
if it was only cut off, their calls went on, and it says so when it is back."""

LEASES_EVERY_S = 1.0
LEASES_AT_ONCE = 500
"""Leases are half a minute long: a second more does not matter, and a sweep stays short."""

ASLEEP_S = 1.0
"""Sweeps that lie this far apart, of four a second, mean that this process slept. Then what it did not hear is no
sign of anybody's death, and silence counts from now."""

_ANNOUNCED = {
    NodeState.SERVING: "node.ready",
    NodeState.LOST: "node.lost",
    NodeState.DRAINING: "node.draining",
}


@dataclass(frozen=True, slots=True)
class NodeSession:
    """A handle on one Session stream of a node; the newest of a node is the current one."""

    node: NodeId
    number: int


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node and how long ago it was heard."""

    node: Node
    heard_age_s: float
    placed: int
    """People on their way to it, whom its last report does not know."""
    drain: Drain | None = None
    """What an operator wants of it, as this process was told."""
    drain_left_s: float | None = None
    """Seconds until the drain's deadline, 0 behind it."""


@dataclass(slots=True)
class _Tracked:
    """What this process knows of a node beyond the store."""

    number: int = 0
    """Of its newest session."""
    first_report: bool = False
    """The newest session has reported."""
    broken_at: float | None = None
    drain: Drain | None = None
    ends: tuple[EndSession, ...] = ()
    leaving: Leaving = field(default_factory=Leaving)
    settled_for: int = 0
    """Version of the topology that everybody on the node was held against."""


class Fleet:
    """Use cases around nodes."""

    def __init__(  # noqa: PLR0913  the composition root names them all
        self,
        *,
        store: Store,
        topologies: Topologies,
        mesh: MeshRtts,
        placements: Placements,
        presence: Presence,
        session_rtts: SessionRtts,
        mover: Mover,
        snapshots: Snapshots,
        notifier: FleetNotifier,
        clock: Clock,
    ) -> None:
        self._store = store
        self._topologies = topologies
        self._mesh = mesh
        self._placements = placements
        self._presence = presence
        self._session_rtts = session_rtts
        self._mover = mover
        self._emptier = Emptier(mover)
        self._snapshots = snapshots
        self._notifier = notifier
        self._clock = clock
        self._tracked: dict[NodeId, _Tracked] = {}
        self._swept_at = self._awake_since = clock.now()
        self._leases_at = 0.0

    # --- sessions of nodes ----------------------------------------------------------------------

    async def open(self, hello: NodeHello) -> NodeSession:
        """Register the node (state joining); a session it had before is no longer current.

        Raises InvalidInputError ("unknown-region", "bad-hello").
        """
        region = (await self._topologies.current()).topology.regions.get(hello.region)
        if region is None:
            raise InvalidInputError(
                "unknown-region",
                f"Node {hello.node} says it is in {hello.region}, which the topology does not declare.",
                "Add the region to the topology, or correct the node's --region.",
            )
        if hello.capacity < 1:
            raise InvalidInputError("bad-hello", "A node's capacity has to be at least 1.")
        now = self._clock.now()
        known = (await self._store.nodes()).get(hello.node)
        node = registered(hello, region, known, now=now)
        tracked = self._tracked.setdefault(hello.node, _Tracked())
        tracked.number += 1
        tracked.first_report = False
        tracked.broken_at = None
        tracked.leaving = Leaving()
        self._snapshots.begin(hello.node, kept=hello.kept_snapshot, now=now)
        await self._become(
            node, step(node.state, NodeEvent.HELLO), "connected, its first report is still missing"
        )
        return NodeSession(hello.node, tracked.number)

    def is_current(self, session: NodeSession) -> bool:
        """Return whether the node has no newer session."""
        tracked = self._tracked.get(session.node)
        return tracked is not None and tracked.number == session.number

    async def report(self, session: NodeSession, report: NodeReport) -> None:
        """Take in the node's state. Raises ConflictError ("session-replaced") when a newer session exists."""
        tracked = self._require_current(session)
        now = self._clock.now()
        node = await self._node(session.node)
        people = len(report.participants)
        load = reported_load(report.load, people, node.capacity)
        node = replace(node, load=load, participants=people, heard_at=now)
        state = step(node.state, NodeEvent.REPORT)
        why = ""
        if tracked.drain is not None:
            state, why = step(state, NodeEvent.DRAIN), tracked.drain.why
        await self._become(node, state, why)
        self._mesh.note(node.id, node.region, report.rtts, now=now)
        await self._store.put_links(node.id, link_statuses(node.id, report))
        figures = await self._session_rtts.take(node, report, now=now)
        present = await self._presence.take(node, report.participants, figures, now=now)
        if present.ends != tracked.ends:
            tracked.ends = present.ends
            self._notifier.wake(frozenset({node.id}))
        if not tracked.first_report:
            tracked.first_report = True
            await self._restarted(node.id, present.vanished)

    async def snapshot_result(self, session: NodeSession, *, version: int, error: str) -> None:
        """Note an ACK (`error` empty) or a NACK of a snapshot. The nonce is the door's to check.

        Raises ConflictError ("session-replaced").
        """
        self._require_current(session)
        if error:
            log.warning("snapshot refused", node=session.node, version=version, why=error[:500])

    async def closed(self, session: NodeSession) -> None:
        """Note that the stream ended: the node is suspect at once. A no-op for a session that was replaced."""
        node = (await self._store.nodes()).get(session.node)
        if node is None or not self.is_current(session):
            return
        self._tracked[session.node].broken_at = self._clock.now()
        await self._become(node, step(node.state, NodeEvent.BROKEN), "session broken")

    async def snapshot(self, node: NodeId) -> NodeSnapshot:
        """Return the node's whole desired state. Raises NotFoundError ("node-not-found")."""
        found = await self._node(node)
        tracked = self._tracked.get(node, _Tracked())
        return await self._snapshots.build(
            found,
            draining=tracked.drain is not None,
            ends=tracked.ends,
            now=self._clock.now(),
        )

    # --- what time demands ----------------------------------------------------------------------

    async def sweep(self) -> None:
        """Do what time demands: liveness, moving the lost, drain deadlines, leases. Call about 4 times a second."""
        now = self._clock.now()
        since = now - self._swept_at
        if not 0 <= since <= ASLEEP_S:
            log.warning("slept, or the clock was set", seconds=round(since, 1))
            self._awake_since = now
        self._swept_at = now
        if since < 0:
            await self._clock_went_back(now)
        for id_ in sorted(await self._store.nodes()):
            if node := (await self._store.nodes()).get(id_):  # it may have reported meanwhile
                await self._sweep_node(node, now)
        if now - self._leases_at >= LEASES_EVERY_S and now - self._awake_since >= SILENT_LOST_S:
            self._leases_at = now
            await self._sweep_leases(now)

    async def _clock_went_back(self, now: float) -> None:
        """Take what seems to lie in the future for what just happened, or nothing would be overdue until then."""
        self._leases_at = now
        for node in (await self._store.nodes()).values():
            if node.heard_at > now:
                await self._store.put_node(replace(node, heard_at=now))
        for tracked in self._tracked.values():
            tracked.leaving.next_round_at = min(tracked.leaving.next_round_at, now)
            if tracked.broken_at is not None:
                tracked.broken_at = min(tracked.broken_at, now)

    async def _sweep_node(self, node: Node, now: float) -> None:
        tracked = self._tracked.get(node.id, _Tracked())
        broken_at = tracked.broken_at
        if broken_at is not None:
            # Heard since: it has a session with another replica.
            broken_at = None if node.heard_at > broken_at else max(broken_at, self._awake_since)
        heard_at = max(node.heard_at, self._awake_since)
        outcome = due(node.state, heard_at=heard_at, broken_at=broken_at, now=now)
        if outcome is not None:
            event, why = outcome
            node = await self._become(node, step(node.state, event), why)
        if node.state is NodeState.LOST:
            await self._sweep_lost(node, now)
        else:
            await self._sweep_leaving(node, now)

    async def _sweep_lost(self, node: Node, now: float) -> None:
        people = await self._store.assignments_on(node.id)
        if people:
            tracked = self._tracked.setdefault(node.id, _Tracked())
            move = Move(f"node {node.id} lost: {node.why}", frozenset({node.id}))
            tried = await self._emptier.empty(WayOut(people, move, None), tracked.leaving, now=now)
            if tried and now - node.heard_at <= FORGET_LOST_S:
                await self._presence.keep(node.id, now=now)
        elif now - node.heard_at > FORGET_LOST_S:
            await self._store.drop_node(node.id)
            self._mesh.forget(node.id)
            self._session_rtts.forget(node.id)
            self._snapshots.forget(node.id)
            self._tracked.pop(node.id, None)

    async def _sweep_leaving(self, node: Node, now: float) -> None:
        """Move whom a drain or a new topology wants elsewhere."""
        tracked = self._tracked.setdefault(node.id, _Tracked())
        current = await self._topologies.current()
        region = current.topology.regions.get(node.region)
        drain = tracked.drain
        if drain is None and region is not None and tracked.settled_for == current.version:
            return
        people = await self._store.assignments_on(node.id)
        if drain is not None and not people and not drain.done:
            drain.done = True
            await self._announce("node.drained", node, drain.why)
        way = way_out(node, people, drain, region, now)
        if way is not None:
            await self._emptier.empty(way, tracked.leaving, now=now)
        else:
            tracked.settled_for = current.version

    async def _sweep_leases(self, now: float) -> None:
        for one in await self._store.expired(now=now, limit=LEASES_AT_ONCE):
            reason = f"expired: {one.node} reports no session of this participant"
            ended = await self._store.end(
                one.room, one.participant, epoch=one.epoch, reason=reason, now=now
            )
            if ended is not None:
                await self._mover.released(ended)

    async def _restarted(self, node: NodeId, vanished: tuple[Assignment, ...]) -> None:
        """Place those anew whom a node had and, in a new session, does not have any more: it was restarted.

        The node may take them itself; what matters is that they are told. Those who are still there get their links
        back if the node was lost.
        """
        reason = f"node {node} lost: it was restarted without this session"
        await self._mover.move(vanished, Move(reason, frozenset()))
        await self._mover.relink(await self._store.assignments_on(node))

    # --- draining -------------------------------------------------------------------------------

    async def drain(
        self, node: NodeId, *, deadline_s: float, reason: str, pace: float | None = None
    ) -> NodeView:
        """Take nobody new; after `deadline_s` seconds the rest is moved, before that `pace` people a second.

        Repeating it replaces all three. Raises NotFoundError ("node-not-found"), ConflictError ("node-not-drainable"),
        InvalidInputError ("bad-deadline", "bad-pace").
        """
        check_drain(deadline_s, pace)
        found = await self._node(node)
        if found.state is NodeState.LOST:
            raise not_drainable(node, found.why)
        tracked = self._tracked.setdefault(node, _Tracked())
        tracked.drain = Drain(self._clock.now() + deadline_s, reason, pace)
        state = step(found.state, NodeEvent.DRAIN)
        why = tracked.drain.why if state is NodeState.DRAINING else found.why
        await self._become(found, state, why)
        self._notifier.wake(frozenset({node}))
        return await self.node(node)

    async def undrain(self, node: NodeId) -> NodeView:
        """Undo `drain`; a no-op for a node that is not draining. Raises NotFoundError ("node-not-found")."""
        found = await self._node(node)
        tracked = self._tracked.get(node)
        if tracked is not None and tracked.drain is not None:
            tracked.drain = None
            self._notifier.wake(frozenset({node}))
        if found.state is NodeState.DRAINING:
            await self._become(found, step(found.state, NodeEvent.UNDRAIN), "")
        return await self.node(node)

    # --- looking --------------------------------------------------------------------------------

    async def nodes(self) -> tuple[NodeView, ...]:
        """Return all nodes in order of id."""
        nodes = await self._store.nodes()
        return tuple(self._view(nodes[id_]) for id_ in sorted(nodes))

    async def node(self, node: NodeId) -> NodeView:
        """Return one node. Raises NotFoundError ("node-not-found")."""
        return self._view(await self._node(node))

    # --- inside ---------------------------------------------------------------------------------

    def _view(self, node: Node) -> NodeView:
        now = self._clock.now()
        placed = self._placements.count(node.id, now=now)
        tracked = self._tracked.get(node.id)
        drain = tracked.drain if tracked else None
        left = max(0.0, drain.deadline_at - now) if drain else None
        return NodeView(node, max(0.0, now - node.heard_at), placed, drain, left)

    async def _node(self, node: NodeId) -> Node:
        found = (await self._store.nodes()).get(node)
        if found is None:
            raise no_node(node)
        return found

    def _require_current(self, session: NodeSession) -> _Tracked:
        if not self.is_current(session):
            raise ConflictError(
                "session-replaced",
                f"Node {session.node} has opened a newer session.",
                "Two processes with one node id? Stop one of them.",
            )
        return self._tracked[session.node]

    async def _become(self, node: Node, state: NodeState, why: str) -> Node:
        """Write the node in its new state; say what changed once, in the log and as an event."""
        before = node.state
        after = replace(node, state=state, why=why)
        await self._store.put_node(after)
        if before is state:
            return after
        log.info("node state", node=node.id, before=before.value, after=state.value, why=why)
        type_ = _ANNOUNCED.get(state)
        if type_ is not None and not (state is NodeState.SERVING and before is NodeState.SUSPECT):
            await self._announce(type_, after, why)
            # Everybody measures and may have to link to it, or no longer.
            self._notifier.wake(frozenset(await self._store.nodes()))
        return after

    async def _announce(self, type_: str, node: Node, why: str) -> None:
        data: Mapping[str, object] = {"node": node.id, "region": node.region, "why": why}
        await self._store.append_event(type_, data, now=self._clock.now())
