"""The life of a node, as a table, and the times after which silence means something.

The promise behind the numbers: everyone whose node is killed decodes again within 5 s. A killed process breaks its
session at once (the kernel closes the socket), so: 1.5 s to be sure that it is no reconnect, at most 0.25 s until the
next sweep, and 3 s are left for the signalling server and the client's new ICE, DTLS and key frame. A node that is cut
off or frozen closes nothing; then silence has to do, and it takes 2 s longer.
"""

from collections.abc import Mapping
from enum import StrEnum

from controlplane.core.model import NodeState

REPORT_INTERVAL_MS = 500
"""Nodes report twice a second: the unit of the figures below."""

SILENT_SUSPECT_S = 2.0
"""Three reports missing and a fourth overdue: one lost second (a retransmitted TCP segment, a busy loop) is no news."""

SILENT_LOST_S = 3.5
"""Six reports missing. Moving somebody costs them a second of picture, so it has to be worth more than a hiccup."""

BROKEN_LOST_S = 1.5
"""A session that broke without a new one: a restarting agent is back within a second, a dead one never."""

STALE_S = 5.0
"""Last line: nobody is placed on a node not heard for this long, whatever its state says, for example because the
replica that watched it is gone."""


class NodeEvent(StrEnum):
    """What can happen to a node."""

    HELLO = "hello"
    """A session was opened."""
    REPORT = "report"
    BROKEN = "broken"
    """The session ended."""
    OVERDUE = "overdue"
    """Reports are missing."""
    GONE = "gone"
    """Too long broken or silent."""
    DRAIN = "drain"
    UNDRAIN = "undrain"


_J, _S, _D, _U, _L = (
    NodeState.JOINING,
    NodeState.SERVING,
    NodeState.DRAINING,
    NodeState.SUSPECT,
    NodeState.LOST,
)

TRANSITIONS: Mapping[NodeEvent, Mapping[NodeState, NodeState]] = {
    NodeEvent.HELLO: {_J: _J, _S: _J, _D: _J, _U: _J, _L: _J},
    # A drain outlives its node's silence: whoever drains applies DRAIN again after a REPORT.
    NodeEvent.REPORT: {_J: _S, _S: _S, _D: _D, _U: _S, _L: _S},
    NodeEvent.BROKEN: {_J: _U, _S: _U, _D: _U, _U: _U, _L: _L},
    NodeEvent.OVERDUE: {_J: _U, _S: _U, _D: _U, _U: _U, _L: _L},
    NodeEvent.GONE: {_J: _L, _S: _L, _D: _L, _U: _L, _L: _L},
    NodeEvent.DRAIN: {_J: _J, _S: _D, _D: _D, _U: _U, _L: _L},
    NodeEvent.UNDRAIN: {_J: _J, _S: _S, _D: _S, _U: _U, _L: _L},
}
"""Every event in every state; tests walk the whole product."""


def step(state: NodeState, event: NodeEvent) -> NodeState:
    """Return the state after the event."""
    return TRANSITIONS[event][state]


def due(
    state: NodeState, *, heard_at: float, broken_at: float | None, now: float
) -> tuple[NodeEvent, str] | None:
    """Return what time alone has done to a node, with the reason, or None for nothing new.

    `heard_at` is when the last report or hello came, `broken_at` when its session broke without a new one since.
    """
    if state is NodeState.LOST:
        return None
    silent = now - heard_at
    event: tuple[NodeEvent, str] | None = None
    if broken_at is not None and now - broken_at >= BROKEN_LOST_S:
        event = NodeEvent.GONE, f"session broken {now - broken_at:.1f} s ago and not renewed"
    elif silent >= SILENT_LOST_S:
        event = NodeEvent.GONE, f"silent for {silent:.1f} s"
    elif state is not NodeState.SUSPECT and broken_at is not None:
        event = NodeEvent.BROKEN, "session broken"
    elif state is not NodeState.SUSPECT and silent >= SILENT_SUSPECT_S:
        event = NodeEvent.OVERDUE, f"silent for {silent:.1f} s"
    return event
