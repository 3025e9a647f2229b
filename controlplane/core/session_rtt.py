"""Round trips of live sessions, window by window: what is told of somebody whose edge measures all the time.

A node reports, about twice a second, the smallest round trip of each of its people that it measured lately. One such
figure says little: a queue at the start of a call, a phone that sleeps. So they are gathered for WINDOW_S, and what
is told is their lower quartile. Queues only add, which is an argument for the smallest; but then one report that is
too low would be believed, so a quarter of the window has to be that low.

A line that is full delays everything that goes over it, whichever region it comes from: it is no reason to sit
elsewhere, though it looks like one beside figures of other regions from before. So what a session is told to have is
the lowest of its last CALM_S. A route that really became longer is seen when that time is over.

What is told is what is new: a call that stays as it is says so every CALM_S.

Whoever is not in a report any more is forgotten with it: there are never more windows than sessions.
"""

from collections.abc import Mapping, Sequence
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

NEWS_MS = 1.0
NEWS_SHARE = 0.05
"""A round trip that differs by less than a millisecond and a twentieth is the same."""

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
    told: tuple[float, float] | None = None
    """When somebody was last told of this session, and which round trip in milliseconds."""

    def begin(self, now: float) -> None:
        """Begin anew, in place: there are as many of these as participants."""
        self.began_at = now
        self.samples.clear()

    def is_news(self, rtt_ms: float, now: float) -> bool:
        """Return whether a figure is worth telling, and note that it is told."""
        if self.told is not None:
            at, before = self.told
            differs = abs(rtt_ms - before) > NEWS_MS + NEWS_SHARE * before
            if not differs and 0 <= now - at < CALM_S:
                return False
        self.told = now, rtt_ms
        return True


@dataclass(slots=True)
class _Open:
    """The windows of a node's people, in the order in which it reports them."""

    reports: Sequence[ParticipantReport]
    windows: list[_Window | None]
    """None for the older one of two sessions of a participant."""


class SessionWindows:
    """The open windows of every node's people."""

    def __init__(self) -> None:
        self._open: dict[NodeId, _Open] = {}

    def __len__(self) -> int:
        return sum(
            window is not None for opened in self._open.values() for window in opened.windows
        )

    def take(
        self,
        node: NodeId,
        reports: Sequence[ParticipantReport],
        rtts: Sequence[float],
        *,
        now: float,
    ) -> Mapping[Key, Figure]:
        """Take in whom a node has, and the round trip of each in milliseconds (0 for none; no list at all for nobody).

        Returns the figures of those whose window is full and who have something new to tell, by room and participant:
        for each at most one in WINDOW_S. Of two sessions of one participant the newer counts.
        """
        opened = self._open.get(node)
        if opened is None or opened.reports != reports:
            opened = self._open[node] = _opened(reports, opened, now)
        told: dict[Key, Figure] = {}
        windows = opened.windows
        measured = rtts if len(rtts) == len(windows) else [0.0] * len(windows)
        for index, rtt in enumerate(measured):
            window = windows[index]
            if window is None:
                continue
            age = now - window.began_at
            if not 0 <= age < STALE_S:
                window.begin(now)
                age = 0.0
            samples = window.samples
            if rtt > 0 and usable_rtt(rtt) and len(samples) < MAX_SAMPLES:
                samples.append(rtt)
            if age >= WINDOW_S and len(samples) >= MIN_SAMPLES:
                window.lowest = _with(window.lowest, _estimate(samples), now)
                window.begin(now)
                lowest = window.lowest[0][1]
                if window.is_news(lowest.rtt_ms, now):
                    report = reports[index]
                    told[report.room, report.participant] = Figure(window.epoch, lowest)
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


def _opened(reports: Sequence[ParticipantReport], before: _Open | None, now: float) -> _Open:
    """Return windows for these people; those who were there before go on with theirs."""
    known: dict[Key, _Window] = {}
    if before is not None:
        for report, window in zip(before.reports, before.windows, strict=True):
            if window is not None:
                known[report.room, report.participant] = window
    newest: dict[Key, int] = {}
    for report in reports:
        key = (report.room, report.participant)
        newest[key] = max(report.epoch, newest.get(key, 0))
    windows: list[_Window | None] = []
    for report in reports:
        key = (report.room, report.participant)
        found = known.get(key)
        if newest[key] != report.epoch:
            windows.append(None)
        elif found is not None and found.epoch == report.epoch:
            windows.append(found)
        else:
            windows.append(_Window(report.epoch, now))
    return _Open(reports, windows)
