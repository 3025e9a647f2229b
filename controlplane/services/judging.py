"""Who is lost, and what becomes of the people there: everything that time demands of the fleet.

A node is judged by the replica that hears it, and by another one when that replica is gone (services/duties.py).
Silence is judged only by who listens: a process that slept, or that cannot reach what the replicas share, or that hears
nothing of many nodes at once, moves nobody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from controlplane.core.liveness import SILENT_LOST_S, NodeEvent, due, mass_silence, step
from controlplane.core.model import Drain, Node, NodeId, NodeState
from controlplane.services.cascade import Cascades
from controlplane.services.duties import Duties
from controlplane.services.emptying import Emptier, WayOut, drain_why, way_out
from controlplane.services.moving import Move, Mover
from controlplane.services.node_states import NodeStates
from controlplane.services.ports import Clock, Gauge
from controlplane.services.presence import Presence
from controlplane.services.session_rtts import SessionRtts
from controlplane.services.snapshots import Snapshots
from controlplane.services.topologies import Topologies, VersionedTopology
from controlplane.services.tracking import Tracking
from controlplane.store.base import Store, StoreHealth

log = structlog.get_logger(__name__)

FORGET_LOST_S = 600.0
"""A lost node stays listed this long, for the operator who looks why, and keeps the live people whom nobody can take:
if it was only cut off, their calls went on, and it says so when it is back."""

LEASES_EVERY_S = 1.0
LEASES_AT_ONCE = 500
"""Leases are half a minute long: a second more does not matter, and a sweep stays short."""

IN_STEP_S = 0.5
"""Sweeps come four times a second. What lies between two of them beyond this is nobody's silence: this process slept or
was busy, and what nodes said meanwhile is still to be read, which takes a few turns of the loop."""

ASLEEP_S = 1.0
"""Sweeps that lie this far apart are worth a line in the log, and no lease ends until everybody had time to report."""


class Judge:
    """Sweeps over the nodes that are this replica's to judge, and the leases that are its duty."""

    def __init__(  # noqa: PLR0913  the composition root names them all
        self,
        *,
        store: Store,
        topologies: Topologies,
        cascades: Cascades,
        presence: Presence,
        session_rtts: SessionRtts,
        mover: Mover,
        snapshots: Snapshots,
        tracking: Tracking,
        states: NodeStates,
        duties: Duties,
        frozen: Gauge,
        clock: Clock,
    ) -> None:
        """`frozen` is 1 while nobody is declared lost and nobody moved, else 0."""
        self._store = store
        self._topologies = topologies
        self._cascades = cascades
        self._presence = presence
        self._session_rtts = session_rtts
        self._mover = mover
        self._emptier = Emptier(mover)
        self._snapshots = snapshots
        self._tracking = tracking
        self._states = states
        self._duties = duties
        self._frozen = frozen
        self._clock = clock
        self._swept_at = self._awake_since = clock.now()
        self._leases_at = 0.0
        self.frozen_why: str | None = None
        """Why nobody is declared lost and nobody moved now; None for as usual."""

    async def sweep(self) -> None:
        """Do what time demands: liveness, moving the lost, drain deadlines, leases. Call about 4 times a second."""
        self._notice_sleep(self._clock.now())
        try:
            await self._sweep(self._clock.now())
        finally:
            # A long sweep is no sleep: reports come in between.
            self._swept_at = self._clock.now()

    async def _sweep(self, now: float) -> None:
        await self._duties.refresh()
        health = await self._store.health()
        mine = await self._judged(health)
        await self._freeze_or_thaw(mine, health, now)
        current = await self._topologies.current()
        drains = await self._store.drains()
        self._emptier.begin()
        for seen in mine:
            if self._is_settled(seen, drains, current, now):
                continue
            # It may have reported meanwhile, and moved to another replica.
            node = (await self._store.nodes()).get(seen.id)
            if node is not None and self._duties.judges(node):
                await self._sweep_node(node, drains.get(node.id), current, now)
        is_time = now - self._leases_at >= LEASES_EVERY_S
        if is_time and self.frozen_why is None and now - self._awake_since >= SILENT_LOST_S:
            self._leases_at = now
            await self._sweep_leases(now)

    # --- whether to believe silence ---------------------------------------------------------------

    def _notice_sleep(self, now: float) -> None:
        since = now - self._swept_at
        if not 0 <= since <= ASLEEP_S:
            log.warning("slept, or the clock was set", seconds=round(since, 1))
            self._awake_since = now
        if since < 0:
            self._clock_went_back(now)
        elif since > IN_STEP_S:
            self._was_late(since - IN_STEP_S, now)

    def _was_late(self, seconds: float, now: float) -> None:
        """Count the time in which this process read nothing as nobody's silence."""
        for one in self._tracking.all():
            if one.heard_at is not None:
                one.heard_at = min(one.heard_at + seconds, now)
            if one.broken_at is not None:
                one.broken_at = min(one.broken_at + seconds, now)
            if one.judged_since is not None:
                one.judged_since = min(one.judged_since + seconds, now)

    def _clock_went_back(self, now: float) -> None:
        """Take what seems to lie in the future for what just happened, or nothing would be overdue until then."""
        self._leases_at = now
        for one in self._tracking.all():
            one.leaving.next_round_at = min(one.leaving.next_round_at, now)
            if one.heard_at is not None:
                one.heard_at = min(one.heard_at, now)
            if one.broken_at is not None:
                one.broken_at = min(one.broken_at, now)
            if one.judged_since is not None:
                one.judged_since = min(one.judged_since, now)

    async def _judged(self, health: StoreHealth) -> list[Node]:
        """Return the nodes that are this replica's to judge, in order of id.

        Those that another replica heard only as long as the replicas hear of each other: cut off from what they share,
        a replica that lives seems dead, and its nodes silent.
        """
        nodes = await self._store.nodes()
        for gone in [id_ for id_ in self._tracking.ids() if id_ not in nodes]:
            self._forget(gone)
        mine: list[Node] = []
        for id_ in sorted(nodes):
            node = nodes[id_]
            is_heard = node.replica == self._duties.me
            if self._duties.judges(node) and (is_heard or health.mode == "normal"):
                mine.append(node)
            elif (tracked := self._tracking.look(id_)) is not None:
                tracked.judged_since = None
        return mine

    async def _freeze_or_thaw(self, mine: Iterable[Node], health: StoreHealth, now: float) -> None:
        alive = [one for one in mine if one.state is not NodeState.LOST]
        silent = sum(
            one.state is NodeState.SUSPECT or self._due(one, now) is not None for one in alive
        )
        why = mass_silence(silent, len(alive))
        if health.mode == "degraded":
            why = f"the state that replicas share is out of reach: {health.why}"
        before, self.frozen_why = self.frozen_why, why
        if (before is None) == (why is None):
            return
        self._frozen.set(0 if why is None else 1)
        data = {"replica": self._duties.me, "why": why or before}
        if why is not None:
            log.error("FLEET FROZEN: nobody is declared lost and nobody moved", why=why)
            await self._store.append_event("fleet.frozen", data, now=now)
        else:
            log.warning("fleet thawed", was=before)
            await self._store.append_event("fleet.thawed", data, now=now)

    def _due(self, node: Node, now: float) -> tuple[NodeEvent, str] | None:
        tracked = self._tracking.of(node.id)
        broken_at = None
        if node.replica == self._duties.me and tracked.heard_at is not None:
            heard_at, broken_at = tracked.heard_at, tracked.broken_at
        else:
            if tracked.judged_since is None:
                tracked.judged_since = now
            heard_at = tracked.judged_since
        return due(
            node.state,
            heard_at=heard_at,
            broken_at=broken_at,
            now=now,
            interval_s=tracked.interval_s,
        )

    # --- nodes ------------------------------------------------------------------------------------

    def _is_settled(
        self, node: Node, drains: Mapping[NodeId, Drain], current: VersionedTopology, now: float
    ) -> bool:
        """Return whether there is nothing to do about a node: mostly so, for a thousand of them four times a second."""
        return (
            node.state is not NodeState.LOST
            and node.id not in drains
            and node.region in current.topology.regions
            and self._tracking.of(node.id).settled_for == current.version
            and self._due(node, now) is None
        )

    async def _sweep_node(
        self, node: Node, drain: Drain | None, current: VersionedTopology, now: float
    ) -> None:
        outcome = self._due(node, now)
        if outcome is not None and (self.frozen_why is None or outcome[0] is not NodeEvent.GONE):
            event, why = outcome
            node = await self._states.become(node, step(node.state, event), why)
        if self.frozen_why is not None:
            return
        if node.state is NodeState.LOST:
            await self._sweep_lost(node, now)
        else:
            await self._sweep_leaving(node, drain, current, now)

    async def _sweep_lost(self, node: Node, now: float) -> None:
        people = await self._store.assignments_on(node.id)
        is_over = now - node.heard_at > FORGET_LOST_S
        if people:
            tracked = self._tracking.of(node.id)
            move = Move(f"node {node.id} lost: {node.why}", frozenset({node.id}))
            await self._emptier.empty(WayOut(people, move, None), tracked.leaving, now=now)
            if is_over:
                await self._presence.give_up(node.id, now=now)
        elif is_over:
            await self._store.drop_node(node.id)

    def _forget(self, node: NodeId) -> None:
        for keeper in (
            self._session_rtts,
            self._snapshots,
            self._presence,
            self._cascades,
            self._tracking,
        ):
            keeper.forget(node)

    async def _sweep_leaving(
        self, node: Node, drain: Drain | None, current: VersionedTopology, now: float
    ) -> None:
        """Move whom a drain or a new topology wants elsewhere."""
        tracked = self._tracking.of(node.id)
        region = current.topology.regions.get(node.region)
        if drain is None and region is not None and tracked.settled_for == current.version:
            return
        people = await self._store.assignments_on(node.id)
        if drain is not None and not people and not drain.done:
            drain = replace(drain, done=True)
            await self._store.put_drain(node.id, drain)
            await self._states.announce("node.drained", node, drain_why(drain))
        way = way_out(node, people, drain, region, now)
        if way is not None:
            await self._emptier.empty(way, tracked.leaving, now=now)
        else:
            tracked.settled_for = current.version

    async def _sweep_leases(self, now: float) -> None:
        for one in await self._store.expired(now=now, limit=LEASES_AT_ONCE):
            if not self._duties.is_mine(one.room):
                continue
            reason = f"expired: {one.node} reports no session of this participant"
            ended = await self._store.end(
                one.room, one.participant, epoch=one.epoch, reason=reason, now=now, if_expired=True
            )
            if ended is not None:
                await self._mover.released(ended)
