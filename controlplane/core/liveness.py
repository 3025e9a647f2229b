"""The life of a node, as a table, and the times after which silence means something.

The promise behind the numbers: everyone whose node is killed decodes again within 5 s. A killed process breaks its
session at once (the kernel closes the socket), so: 1.5 s to be sure that it is no reconnect, at most 0.25 s until the
next sweep, and 3 s are left for the signalling server and the client's new ICE, DTLS and key frame. A node that is cut
off or frozen closes nothing; then silence has to do, and it takes 2 s longer, in a large fleet 3.5 s.
"""

from collections.abc import Mapping
from enum import StrEnum

from controlplane.core.model import NodeState

REPORT_INTERVAL_S = 0.5
"""Nodes of small fleets report twice a second."""

LARGE_FLEET_S = 2.0
"""Nodes of large ones every two seconds: a thousand of them are then as much work as 250."""

LARGE_FLEET = 200
"""Nodes from which a fleet is large: 400 reports a second, about a tenth of a core."""

SMALL_AGAIN = 150
"""Below this it is small again: a node that comes and goes does not change the rhythm of all others."""

LATE_SUSPECT_S = 1.5
"""A report this late is no hiccup any more: a retransmitted TCP segment, a busy loop take a second."""

LATE_LOST_S = 3.0
"""Moving somebody costs them a second of picture, so it has to be worth more than a long hiccup."""

SILENT_SUSPECT_S = REPORT_INTERVAL_S + LATE_SUSPECT_S
SILENT_LOST_S = REPORT_INTERVAL_S + LATE_LOST_S
"""What follows for nodes that report twice a second."""

BROKEN_LOST_S = 1.5
"""A session that broke without a new one: a restarting agent is back within a second, a dead one never."""

STALE_S = 30.0
"""Last line: nobody is placed on a node not heard for this long, whatever its state says. Replicas tell each other of
each node every WRITTEN_EVERY_S at least, and their clocks may differ by seconds."""

WRITTEN_EVERY_S = 5.0
"""How old what other replicas know of a node may be when nothing about it changes."""

FREEZE_SHARE = 0.4
FREEZE_FROM = 3
"""When more than this share of the nodes that a replica hears, and at least so many, are silent at once, it is more
likely the replica that hears nothing than that all of them died together."""


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


def report_interval_s(nodes: int, *, before: float) -> float:
    """Return how often nodes report in a fleet of so many; `before` is what was in force until now."""
    large = nodes >= (SMALL_AGAIN if before == LARGE_FLEET_S else LARGE_FLEET)
    return LARGE_FLEET_S if large else REPORT_INTERVAL_S


def due(
    state: NodeState,
    *,
    heard_at: float,
    broken_at: float | None,
    now: float,
    interval_s: float = REPORT_INTERVAL_S,
) -> tuple[NodeEvent, str] | None:
    """Return what time alone has done to a node, with the reason, or None for nothing new.

    `heard_at` is when the last report or hello came, `broken_at` when its session broke without a new one since,
    `interval_s` how often it reports.
    """
    if state is NodeState.LOST:
        return None
    silent = now - heard_at
    late = silent - interval_s
    event: tuple[NodeEvent, str] | None = None
    if broken_at is not None and now - broken_at >= BROKEN_LOST_S:
        event = NodeEvent.GONE, f"session broken {now - broken_at:.1f} s ago and not renewed"
    elif late >= LATE_LOST_S:
        event = NodeEvent.GONE, f"silent for {silent:.1f} s"
    elif state is not NodeState.SUSPECT and broken_at is not None:
        event = NodeEvent.BROKEN, "session broken"
    elif state is not NodeState.SUSPECT and late >= LATE_SUSPECT_S:
        event = NodeEvent.OVERDUE, f"silent for {silent:.1f} s"
    return event


def mass_silence(silent: int, judged: int) -> str | None:
    """Return why so much silence is not believed, or None when it is.

    `judged` are the nodes that are not lost yet and that this replica hears or has taken over, `silent` those of them
    that are suspect.
    """
    if silent < FREEZE_FROM or silent <= FREEZE_SHARE * judged:
        return None
    return f"{silent} of {judged} nodes fell silent at once"
