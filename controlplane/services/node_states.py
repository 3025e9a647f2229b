"""Writes nodes in their new states, and says so once: in the log, and as an event."""

from collections.abc import Mapping
from dataclasses import replace

import structlog

from controlplane.core.model import Node, NodeState
from controlplane.services.ports import Clock
from controlplane.services.tracking import Tracking
from controlplane.store.base import Store

log = structlog.get_logger(__name__)

_ANNOUNCED = {
    NodeState.SERVING: "node.ready",
    NodeState.LOST: "node.lost",
    NodeState.DRAINING: "node.draining",
}


class NodeStates:
    """The one place where a node's state changes."""

    def __init__(self, store: Store, tracking: Tracking, clock: Clock) -> None:
        self._store = store
        self._tracking = tracking
        self._clock = clock

    async def become(
        self, node: Node, state: NodeState, why: str, *, is_back: bool = False
    ) -> Node:
        """Write the node in its new state and return it; `is_back` for one that serves as it did before."""
        before = node.state
        after = replace(node, state=state, why=why)
        self._tracking.of(node.id).written_at = self._clock.now()
        await self._store.put_node(after)
        if before is state:
            return after
        log.info("node state", node=node.id, before=before.value, after=state.value, why=why)
        type_ = _ANNOUNCED.get(state)
        was_there = is_back or before is NodeState.SUSPECT
        if type_ is not None and not (state is NodeState.SERVING and was_there):
            await self.announce(type_, after, why)
        return after

    async def announce(self, type_: str, node: Node, why: str) -> None:
        """Append an event about a node."""
        data: Mapping[str, object] = {"node": node.id, "region": node.region, "why": why}
        await self._store.append_event(type_, data, now=self._clock.now())
