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

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.core.mesh import MAX_RTT_MS
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

SHARED_OUT_S = 5.0
"""A node's figures are kept as they came for so long, and a window may end that much later: a thousand nodes report on
50,000 people a second, and to look at each of them every time costs a tenth of a core."""

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

_Full = tuple[float, float, float]
"""When a window was full, its lower quartile and its spread in milliseconds."""


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
    lowest: list[_Full] = field(default_factory=list)
    """The last full windows that no later one was below: the first is the lowest of all."""
    told: tuple[float, float] | None = None
    """When somebody was last told of this session, and which round trip in milliseconds."""

    def begin(self, now: float) -> None:
        """Begin anew, in place: there are as many of these as participants."""
        self.began_at = now
        self.samples.clear()

    def end(self, now: float) -> _Full:
        """Begin anew and return the lowest of the last windows, this one among them.

        In place: what lives for ten minutes and is made 10,000 times a second keeps Python's cycle collector busy.
        """
        rtt_ms, spread_ms = _quartile(self.samples)
        self.begin(now)
        self.lowest[:] = [
            one for one in self.lowest if one[1] < rtt_ms and 0 <= now - one[0] < CALM_S
        ]
        self.lowest.append((now, rtt_ms, spread_ms))
        return self.lowest[0]

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
    rows: list[Sequence[float]] = field(default_factory=list)
    """Figures that are not in the windows yet, a row for each report."""
    heard_at: float = 0.0
    shared_out_at: float = -math.inf

    def begin(self, now: float) -> None:
        """Begin all windows anew."""
        self.rows.clear()
        for window in self.windows:
            if window is not None:
                window.begin(now)

    def share_out(self, now: float) -> None:
        """Put the figures into the windows."""
        self.shared_out_at = now
        # Without a row there is nothing to put into any window.
        for window, column in zip(self.windows, zip(*self.rows, strict=True), strict=False):
            if window is not None:
                room = MAX_SAMPLES - len(window.samples)
                window.samples += [rtt for rtt in column if 0 < rtt <= MAX_RTT_MS][:room]
        self.rows.clear()

    def told(self, now: float) -> dict[Key, Figure]:
        """Return what is new in the windows that are full, which begin anew."""
        told: dict[Key, Figure] = {}
        for report, window in zip(self.reports, self.windows, strict=True):
            if window is None:
                continue
            age = now - window.began_at
            if not 0 <= age < STALE_S:
                window.begin(now)
            elif age >= WINDOW_S and len(window.samples) >= MIN_SAMPLES:
                _, rtt_ms, spread_ms = window.end(now)
                if window.is_news(rtt_ms, now):
                    rtt = RttEstimate(rtt_ms, spread_ms, RttSource.SESSION)
                    told[report.room, report.participant] = Figure(window.epoch, rtt)
        return told


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
            if opened is not None:
                opened.share_out(now)
            opened = self._open[node] = _opened(reports, opened, now)
        elif not 0 <= now - opened.heard_at < STALE_S:
            opened.begin(now)
        opened.heard_at = now
        if len(rtts) == len(reports):
            opened.rows.append(rtts)
        is_time = not 0 <= now - opened.shared_out_at < SHARED_OUT_S
        if not is_time and len(opened.rows) < MAX_SAMPLES:
            return {}
        opened.share_out(now)
        return opened.told(now)

    def forget(self, node: NodeId) -> None:
        """Drop a node's windows."""
        self._open.pop(node, None)


def _quartile(samples: list[float]) -> tuple[float, float]:
    """Return the lower quartile and the standard deviation, in milliseconds."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    low, high = ordered[quarter], ordered[-1 - quarter]
    spread = max(MIN_SPREAD_MS, (high - low) * IQR_TO_SIGMA)
    return low, spread


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
