import math
from collections.abc import Mapping, Sequence

import pytest

from controlplane.core.model import NodeId, ParticipantId, RoomId, RttSource
from controlplane.core.session import ParticipantReport
from controlplane.core.session_rtt import CALM_S, MAX_SAMPLES, WINDOW_S, Figure, Key, SessionWindows

NODE = NodeId("fra-1")
ROOM = RoomId("standup")
ANA: Key = (ROOM, ParticipantId("ana"))


Said = tuple[ParticipantReport, float]


def report(rtt_ms: float | None, who: str = "ana", epoch: int = 1) -> Said:
    return ParticipantReport(ROOM, ParticipantId(who), epoch), rtt_ms or 0.0


def take(
    windows: SessionWindows, said: Sequence[Said], *, now: float, node: NodeId = NODE
) -> Mapping[Key, Figure]:
    return windows.take(node, [one for one, _ in said], [rtt for _, rtt in said], now=now)


def figures(
    windows: SessionWindows, rtts: Sequence[float | None], *, start: float = 0.0, step: float = 0.5
) -> list[tuple[float, Figure]]:
    """Report these one after the other; return when somebody was told of, and what."""
    told = []
    for index, rtt in enumerate(rtts):
        now = start + index * step
        told += [(now, one) for one in take(windows, [report(rtt)], now=now).values()]
    return told


def test_a_figure_comes_after_a_window_and_again_when_it_is_news() -> None:
    told = figures(SessionWindows(), [20.0] * 61)
    assert [(now, one.rtt.rtt_ms, one.epoch) for now, one in told] == [(10.0, 20.0, 1)]
    assert told[0][1].rtt.source is RttSource.SESSION
    told = figures(SessionWindows(), [90.0] * 41 + [86.0] * 40 + [85.0] * 40)
    assert [(now, one.rtt.rtt_ms) for now, one in told] == [(10.0, 90.0)], "a twentieth is none"
    told = figures(SessionWindows(), [90.0] * 21 + [80.0] * 40)
    assert [(now, one.rtt.rtt_ms) for now, one in told] == [(10.0, 90.0), (20.0, 80.0)]


def test_a_long_call_says_what_it_is_every_ten_minutes() -> None:
    told = figures(SessionWindows(), [20.0] * 3 * 2 * int(CALM_S))
    assert [now for now, _ in told] == [10.0, 10 + CALM_S, 10 + 2 * CALM_S]


@pytest.mark.parametrize("odd", [0.0, 3.0, 400.0, 9999.0, math.nan, math.inf, -1.0])
def test_one_odd_measurement_does_nothing(odd: float) -> None:
    samples: list[float | None] = [20.0 + index % 3 for index in range(21)]
    usual = figures(SessionWindows(), samples)[0][1]
    for at in range(21):
        mixed = [*samples[:at], odd, *samples[at + 1 :]]
        found = figures(SessionWindows(), mixed)[0][1]
        assert found.rtt.rtt_ms == usual.rtt.rtt_ms
        assert found.rtt.spread_ms == pytest.approx(usual.rtt.spread_ms, abs=1.0)


def test_queues_do_not_count_while_a_part_of_the_window_is_free_of_them() -> None:
    found = figures(SessionWindows(), [20.0] * 8 + [300.0] * 13)[0][1]
    assert found.rtt.rtt_ms == 20.0
    assert found.rtt.spread_ms > 100


def test_the_lowest_of_ten_minutes_counts_so_that_a_full_line_looks_like_no_distance() -> None:
    per_window = int(WINDOW_S / 0.5)
    told = figures(
        SessionWindows(),
        [30.0] * per_window + [90.0] * 100 * per_window + [20.0] * 2 * per_window,
    )
    assert [one.rtt.rtt_ms for _, one in told] == [30.0, 90.0, 20.0]
    assert 10 + CALM_S <= told[1][0] <= 10 + CALM_S + 2 * WINDOW_S


def test_another_session_begins_without_a_past() -> None:
    windows = SessionWindows()
    figures(windows, [10.0] * 21)
    told: list[Figure] = []
    for tick in range(40):
        now = 20.0 + tick / 2
        told += take(windows, [report(70.0, epoch=2)], now=now).values()
    assert told[0].rtt.rtt_ms == 70.0


def test_few_samples_or_none_say_nothing() -> None:
    assert figures(SessionWindows(), [None] * 100) == []
    assert figures(SessionWindows(), [20.0] * 4 + [None] * 30) == []
    assert [now for now, _ in figures(SessionWindows(), [20.0] * 6, step=4.0)] == [16.0]


def test_a_window_that_does_not_fill_begins_anew() -> None:
    windows = SessionWindows()
    assert figures(windows, [500.0] * 4) == []
    told = figures(windows, [20.0] * 21, start=3600.0)
    assert [one.rtt.rtt_ms for _, one in told] == [20.0]


def test_another_session_begins_anew() -> None:
    windows = SessionWindows()
    for index in range(19):
        take(windows, [report(500.0)], now=index * 0.5)
    told: list[Figure] = []
    for index in range(25):
        both = [report(20.0, epoch=2), report(500.0, epoch=1)]
        told += take(windows, both, now=9.5 + index * 0.5).values()
    assert [(one.epoch, one.rtt.rtt_ms) for one in told] == [(2, 20.0)]


def test_who_is_not_reported_any_more_is_forgotten() -> None:
    windows = SessionWindows()
    take(windows, [report(20.0, f"p{index}") for index in range(50)], now=0.0)
    assert len(windows) == 50
    take(windows, [report(20.0, "p7")], now=0.5)
    assert len(windows) == 1
    take(windows, [report(20.0, "p7")], now=0.5, node=NodeId("vir-1"))
    windows.forget(NODE)
    windows.forget(NODE)
    assert len(windows) == 1


def test_a_node_that_reports_too_often_is_bounded() -> None:
    windows = SessionWindows()
    told = figures(windows, [20.0] * (MAX_SAMPLES * 5), step=WINDOW_S / (MAX_SAMPLES * 4))
    assert len(told) == 1
    assert all(
        len(window.samples) <= MAX_SAMPLES
        for opened in windows._open.values()
        for window in opened.windows
        if window is not None
    )


def test_a_clock_that_goes_back_begins_anew() -> None:
    windows = SessionWindows()
    take(windows, [report(20.0)], now=1000.0)
    assert [now for now, _ in figures(windows, [20.0] * 21)] == [10.0]
