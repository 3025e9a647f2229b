"""Round trips of live sessions, window by window: what is told of somebody whose edge measures all the time.

A node reports, about twice a second, the smallest round trip of each of its people that it measured lately. One such
figure says little: a queue at the start of a call, a phone that sleeps. So they are gathered for WINDOW_S, and what
is told is their lower quartile. Queues only add, which is an argument for the smallest; but then one report that is
too low would be believed, so a quarter of the window has to be that low.

A line that is full delays everything that goes over it, whichever region it comes from: it is no reason to sit
elsewhere, though it looks like one beside figures of other regions from before. So what a session is told to have is
the lowest of its last CALM_S. A route that really became longer is seen when that time is over.

Whoever is not in a report any more is forgotten with it: there are never more windows than sessions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.core.mesh import usable_rtt
from controlplane.core.model import NodeId, ParticipantId, RoomId, RttEstimate, RttSource
from controlplane.core.session import ParticipantReport

WINDOW_S = 10.0
"""As long as a node takes for five measurements of one client: every window has seen new ones."""

MIN_SAMPLES = 5
"""With fewer, the quartile is the smallest."""

CALM_S = 600.0
"""Somebody's upload, or a busy evening on a cable, mostly leaves a gap within ten minutes; a changed route does not."""

STALE_S = 60.0
"""A window that did not fill by then is begun anew: its first figures are no longer about now."""

MAX_SAMPLES = 100
"""A node that reports faster than 10 times a second is not listened to more closely."""

MIN_SPREAD_MS = 1.0
"""Wi-Fi and mobile schedulers move a round trip by this much from packet to packet."""

IQR_TO_SIGMA = 1 / 1.349
"""The quartiles of a normal distribution lie 1.349 standard deviations apart."""

Key = tuple[RoomId, ParticipantId]


@dataclass(frozen=True, slots=True)
class Figure:
    """What a full window came to."""

    epoch: int
    """Of the session that was measured."""
    rtt: RttEstimate


@dataclass(slots=True)
class _Window:
    epoch: int
    began_at: float
    samples: list[float] = field(default_factory=list)
    lowest: tuple[tuple[float, RttEstimate], ...] = ()
    """When each of the last figures came that no later one was below: the first is the lowest of all."""


class SessionWindows:
    """The open windows of every node's people."""

    def __init__(self) -> None:
        self._open: dict[NodeId, dict[Key, _Window]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def take(
        self, node: NodeId, reports: Iterable[ParticipantReport], *, now: float
    ) -> Mapping[Key, Figure]:
        """Take in a node's whole report; return the figures of those whose window is full, by room and participant.

        For each that is at most one in WINDOW_S. Of two sessions of one participant the newer counts.
        """
        before = self._open.get(node, {})
        after: dict[Key, _Window] = {}
        told: dict[Key, Figure] = {}
        for report in sorted(reports, key=lambda one: one.epoch):
            key = (report.room, report.participant)
            window = before.get(key)
            age = 0.0 if window is None else now - window.began_at
            if window is None or window.epoch != report.epoch:
                window = _Window(report.epoch, now)
            elif not 0 <= age < STALE_S:
                window = _Window(report.epoch, now, lowest=window.lowest)
            after[key] = window
            rtt = report.rtt_ms
            if rtt is not None and usable_rtt(rtt) and len(window.samples) < MAX_SAMPLES:
                window.samples.append(rtt)
        for key, window in after.items():
            if now - window.began_at >= WINDOW_S and len(window.samples) >= MIN_SAMPLES:
                lowest = _with(window.lowest, _estimate(window.samples), now)
                told[key] = Figure(window.epoch, lowest[0][1])
                after[key] = _Window(window.epoch, now, lowest=lowest)
        self._open[node] = after
        return told

    def forget(self, node: NodeId) -> None:
        """Drop a node's windows."""
        self._open.pop(node, None)


def _with(
    lowest: tuple[tuple[float, RttEstimate], ...], figure: RttEstimate, now: float
) -> tuple[tuple[float, RttEstimate], ...]:
    kept = (one for one in lowest if one[1].rtt_ms < figure.rtt_ms and 0 <= now - one[0] < CALM_S)
    return (*kept, (now, figure))


def _estimate(samples: list[float]) -> RttEstimate:
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    low, high = ordered[quarter], ordered[-1 - quarter]
    spread = max(MIN_SPREAD_MS, (high - low) * IQR_TO_SIGMA)
    return RttEstimate(low, spread, RttSource.SESSION)
