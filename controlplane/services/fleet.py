"""The fleet as its nodes and operators see it: sessions, reports, snapshots, drains.

Which states there are and when silence means something is core/liveness.py's; who is lost is services/judging.py's.
Every replica answers for every node; only the one that a node has its session with takes in what it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from controlplane.core.liveness import WRITTEN_EVERY_S, NodeEvent, step
from controlplane.core.load import reported_load
from controlplane.core.model import Drain, Node, NodeId, NodeState
from controlplane.core.session import NodeHello, NodeReport, NodeSnapshot
from controlplane.errors import ConflictError, InvalidInputError
from controlplane.services.duties import Duties
from controlplane.services.emptying import check_drain, drain_why
from controlplane.services.moving import Move, Mover
from controlplane.services.node_states import NodeStates
from controlplane.services.placements import Placements
from controlplane.services.ports import Clock, FleetNotifier
from controlplane.services.presence import Presence, Present
from controlplane.services.refusals import no_node, not_drainable
from controlplane.services.reports import is_news, registered
from controlplane.services.session_rtts import SessionRtts
from controlplane.services.snapshots import Snapshots
from controlplane.services.topologies import Topologies
from controlplane.services.tracking import Tracked, Tracking
from controlplane.services.world import smallest_rtts
from controlplane.store.base import Store

log = structlog.get_logger(__name__)

FIGURES_EVERY = 4
"""Counters of links are told to the other replicas with every so manieth report, and when a link changes."""

_WAS_THERE = frozenset({NodeState.SERVING, NodeState.SUSPECT, NodeState.DRAINING})


@dataclass(frozen=True, slots=True)
class NodeSession:
    """A handle on one Session stream of a node; the newest of a node is the current one."""

    node: NodeId
    number: int
    is_back: bool = False
    """The node served when it began: its session was only moved or renewed."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node and how long ago it was heard."""

    node: Node
    heard_age_s: float
    placed: int
    """People on their way to it, whom its last report does not know."""
    drain: Drain | None = None
    """What an operator wants of it."""
    drain_left_s: float | None = None
    """Seconds until the drain's deadline, 0 behind it."""


class Fleet:
    """Use cases around nodes."""

    def __init__(  # noqa: PLR0913  the composition root names them all
        self,
        *,
        store: Store,
        topologies: Topologies,
        placements: Placements,
        presence: Presence,
        session_rtts: SessionRtts,
        mover: Mover,
        snapshots: Snapshots,
        tracking: Tracking,
        states: NodeStates,
        duties: Duties,
        notifier: FleetNotifier,
        clock: Clock,
    ) -> None:
        self._store = store
        self._topologies = topologies
        self._placements = placements
        self._presence = presence
        self._session_rtts = session_rtts
        self._mover = mover
        self._snapshots = snapshots
        self._tracking = tracking
        self._states = states
        self._duties = duties
        self._notifier = notifier
        self._clock = clock

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
        node = registered(hello, region, known, replica=self._store.replica, now=now)
        before = self._tracking.of(hello.node)
        self._tracking.forget(hello.node)
        tracked = self._tracking.of(hello.node)
        tracked.number = before.number + 1
        tracked.heard_at = now
        self._presence.forget(hello.node)
        self._snapshots.begin(hello.node, kept=hello.kept_snapshot, now=now)
        await self._states.become(
            node, step(node.state, NodeEvent.HELLO), "connected, its first report is still missing"
        )
        is_back = known is not None and known.state in _WAS_THERE
        return NodeSession(hello.node, tracked.number, is_back)

    def is_current(self, session: NodeSession) -> bool:
        """Return whether the node has no newer session here."""
        tracked = self._tracking.look(session.node)
        return tracked is not None and tracked.number == session.number

    async def report(self, session: NodeSession, report: NodeReport) -> None:
        """Take in the node's state. Raises ConflictError ("session-replaced") when a newer session exists."""
        tracked = self._require_current(session)
        now = self._clock.now()
        tracked.heard_at = now
        node = await self._take_state(session, report, tracked, now)
        await self._take_links(node.id, report, tracked, now)
        figures = await self._session_rtts.take(node, report, now=now)
        present = await self._presence.take(node, report.participants, figures, now=now)
        if present.ends != tracked.ends:
            tracked.ends = present.ends
            self._notifier.wake(frozenset({node.id}))
        if not tracked.first_report:
            tracked.first_report = True
            await self._restarted(node.id, present)

    async def snapshot_result(self, session: NodeSession, *, version: int, error: str) -> None:
        """Note an ACK (`error` empty) or a NACK of a snapshot. The nonce is the door's to check.

        Raises ConflictError ("session-replaced").
        """
        tracked = self._require_current(session)
        if error:
            log.warning("snapshot refused", node=session.node, version=version, why=error[:500])
        else:
            tracked.interval_s = (
                self._snapshots.interval_s(session.node, version) or tracked.interval_s
            )

    async def closed(self, session: NodeSession) -> None:
        """Note that the stream ended: the node is suspect at once, unless it may already be with another replica.

        A no-op for a session that was replaced.
        """
        tracked = self._tracking.look(session.node)
        node = (await self._store.nodes()).get(session.node)
        if node is None or tracked is None or not self.is_current(session):
            return
        tracked.broken_at = self._clock.now()
        if self._duties.is_alone:
            await self._states.become(node, step(node.state, NodeEvent.BROKEN), "session broken")

    async def snapshot(self, node: NodeId, *, anew: bool = False) -> NodeSnapshot:
        """Return the node's whole desired state; with `anew` nothing that was planned before is relied on.

        The same object as long as nothing changes. Raises NotFoundError ("node-not-found").
        """
        found = await self._node(node)
        tracked = self._tracking.of(node)
        snapshot = await self._snapshots.build(
            found,
            draining=node in await self._store.drains(),
            ends=tracked.ends,
            now=self._clock.now(),
            anew=anew,
        )
        # Until the node has taken it, it may report as rarely as before.
        tracked.interval_s = max(tracked.interval_s, snapshot.report_interval_ms / 1000)
        return snapshot

    # --- draining -------------------------------------------------------------------------------

    async def drain(
        self, node: NodeId, *, deadline_s: float, reason: str, pace: float | None = None
    ) -> NodeView:
        """Take nobody new; after `deadline_s` seconds the rest is moved, before that `pace` people a second.

        Repeating it replaces all three. Raises NotFoundError ("node-not-found"), ConflictError ("node-not-drainable"),
        InvalidInputError ("bad-deadline", "bad-pace"), UnavailableError ("state-unavailable").
        """
        check_drain(deadline_s, pace)
        found = await self._node(node)
        if found.state is NodeState.LOST:
            raise not_drainable(node, found.why)
        drain = Drain(self._clock.now() + deadline_s, reason, pace)
        await self._store.put_drain(node, drain)
        state = step(found.state, NodeEvent.DRAIN)
        why = drain_why(drain) if state is NodeState.DRAINING else found.why
        await self._states.become(found, state, why)
        self._notifier.wake(frozenset({node}))
        return await self.node(node)

    async def undrain(self, node: NodeId) -> NodeView:
        """Undo `drain`; a no-op for a node that is not draining.

        Raises NotFoundError ("node-not-found"), UnavailableError ("state-unavailable").
        """
        found = await self._node(node)
        await self._store.drop_drain(node)
        if found.state is NodeState.DRAINING:
            await self._states.become(found, step(found.state, NodeEvent.UNDRAIN), "")
        self._notifier.wake(frozenset({node}))
        return await self.node(node)

    # --- looking --------------------------------------------------------------------------------

    async def nodes(self) -> tuple[NodeView, ...]:
        """Return all nodes in order of id."""
        nodes, drains = await self._store.nodes(), await self._store.drains()
        return tuple(self._view(nodes[id_], drains) for id_ in sorted(nodes))

    async def node(self, node: NodeId) -> NodeView:
        """Return one node. Raises NotFoundError ("node-not-found")."""
        return self._view(await self._node(node), await self._store.drains())

    # --- inside ---------------------------------------------------------------------------------

    async def _take_state(
        self, session: NodeSession, report: NodeReport, tracked: Tracked, now: float
    ) -> Node:
        """Write what the report says of the node itself, if that is news to anybody; return the node."""
        before = await self._node(session.node)
        people = len(report.participants)
        state, why = step(before.state, NodeEvent.REPORT), ""
        drain = (await self._store.drains()).get(session.node)
        if drain is not None:
            state, why = step(state, NodeEvent.DRAIN), drain_why(drain)
        is_known, tracked.rtts = report.rtts is tracked.rtts, report.rtts
        after = replace(
            before,
            load=reported_load(report.load, people, before.capacity),
            participants=people,
            heard_at=now,
            # Said again with each report: the replica of a session before may have written later than this one.
            replica=self._store.replica,
            rtts=before.rtts if is_known else smallest_rtts(report.rtts, before.rtts),
        )
        is_due = not 0 <= now - tracked.written_at < WRITTEN_EVERY_S
        if is_due or (state, why) != (before.state, before.why) or is_news(before, after):
            is_back = session.is_back and not tracked.first_report
            return await self._states.become(after, state, why, is_back=is_back)
        return after

    async def _take_links(
        self, node: NodeId, report: NodeReport, tracked: Tracked, now: float
    ) -> None:
        is_same = report.links is tracked.links or report.links == tracked.links
        waited = now - tracked.links_at >= FIGURES_EVERY * tracked.interval_s
        if is_same and not (waited and report.link_figures != tracked.link_figures):
            return
        tracked.links, tracked.link_figures = report.links, report.link_figures
        tracked.links_at = now
        await self._store.put_links(node, report.links, report.link_figures)

    async def _restarted(self, node: NodeId, present: Present) -> None:
        """Place those anew whom a node had and, in a new session, does not have any more: it was restarted.

        The node may take them itself; what matters is that they are told. Those who are still there get their links
        back if the node was lost.
        """
        reason = f"node {node} lost: it was restarted without this session"
        await self._mover.move(present.vanished, Move(reason, frozenset()))
        await self._mover.relink(await self._store.assignments_on(node))

    def _view(self, node: Node, drains: Mapping[NodeId, Drain]) -> NodeView:
        now = self._clock.now()
        tracked = self._tracking.look(node.id)
        heard_at = node.heard_at
        if tracked is not None and tracked.heard_at is not None and node.replica == self._duties.me:
            heard_at = tracked.heard_at
        drain = drains.get(node.id)
        left = max(0.0, drain.deadline_at - now) if drain else None
        placed = self._placements.count(node.id, now=now)
        return NodeView(node, max(0.0, now - heard_at), placed, drain, left)

    async def _node(self, node: NodeId) -> Node:
        found = (await self._store.nodes()).get(node)
        if found is None:
            raise no_node(node)
        return found

    def _require_current(self, session: NodeSession) -> Tracked:
        tracked = self._tracking.look(session.node)
        if tracked is None or tracked.number != session.number:
            raise ConflictError(
                "session-replaced",
                f"Node {session.node} has opened a newer session.",
                "Two processes with one node id? Stop one of them.",
            )
        return tracked
