from itertools import product

import pytest

from controlplane.core.liveness import (
    BROKEN_LOST_S,
    LARGE_FLEET_S,
    REPORT_INTERVAL_S,
    SILENT_LOST_S,
    SILENT_SUSPECT_S,
    STALE_S,
    TRANSITIONS,
    WRITTEN_EVERY_S,
    NodeEvent,
    due,
    mass_silence,
    report_interval_s,
    step,
)
from controlplane.core.model import NodeState

SWEEP_S = 0.25


@pytest.mark.parametrize(("event", "state"), list(product(NodeEvent, NodeState)))
def test_every_event_is_defined_in_every_state(event: NodeEvent, state: NodeState) -> None:
    assert step(state, event) is TRANSITIONS[event][state]


def test_only_hello_and_a_report_bring_a_lost_node_back() -> None:
    back = {event for event in NodeEvent if step(NodeState.LOST, event) is not NodeState.LOST}
    assert back == {NodeEvent.HELLO, NodeEvent.REPORT}


def test_nobody_is_placed_on_a_node_before_its_first_report() -> None:
    others = set(NodeEvent) - {NodeEvent.REPORT}
    assert NodeState.SERVING not in {step(NodeState.JOINING, event) for event in others}
    assert step(NodeState.JOINING, NodeEvent.REPORT) is NodeState.SERVING


@pytest.mark.parametrize(
    ("state", "silent_for", "broken_for", "expected"),
    [
        (NodeState.SERVING, 1.9, None, None),
        (NodeState.SERVING, 2.0, None, NodeEvent.OVERDUE),
        (NodeState.SUSPECT, 2.6, None, None),
        (NodeState.SUSPECT, 3.5, None, NodeEvent.GONE),
        (NodeState.SERVING, 0.1, 0.0, NodeEvent.BROKEN),
        (NodeState.SUSPECT, 0.1, 0.0, None),
        (NodeState.SUSPECT, 1.5, 1.4, None),
        (NodeState.SUSPECT, 1.6, 1.5, NodeEvent.GONE),
        (NodeState.JOINING, 3.5, None, NodeEvent.GONE),
        (NodeState.DRAINING, 2.0, None, NodeEvent.OVERDUE),
        (NodeState.LOST, 999.0, 999.0, None),
        (NodeState.SERVING, -5.0, None, None),
    ],
)
def test_what_time_alone_does(
    state: NodeState, silent_for: float, broken_for: float | None, expected: NodeEvent | None
) -> None:
    now = 1000.0
    broken_at = None if broken_for is None else now - broken_for
    outcome = due(state, heard_at=now - silent_for, broken_at=broken_at, now=now)
    assert (outcome[0] if outcome else None) is expected
    if outcome:
        assert outcome[1]


@pytest.mark.parametrize(
    ("silent_for", "expected"),
    [(3.4, None), (3.5, NodeEvent.OVERDUE), (4.9, NodeEvent.OVERDUE), (5.0, NodeEvent.GONE)],
)
def test_who_reports_more_rarely_is_missed_later(
    silent_for: float, expected: NodeEvent | None
) -> None:
    outcome = due(
        NodeState.SERVING,
        heard_at=1000 - silent_for,
        broken_at=None,
        now=1000,
        interval_s=LARGE_FLEET_S,
    )
    assert (outcome[0] if outcome else None) is expected


def test_the_rhythm_follows_the_fleet_and_does_not_flap() -> None:
    at, seen = REPORT_INTERVAL_S, []
    for nodes in (3, 199, 200, 199, 160, 149, 199, 1000):
        at = report_interval_s(nodes, before=at)
        seen.append(at)
    assert seen == [0.5, 0.5, 2.0, 2.0, 2.0, 0.5, 0.5, 2.0]


@pytest.mark.parametrize(
    ("silent", "judged", "frozen"),
    [
        (0, 0, False),
        (1, 1, False),
        (2, 2, False),
        (2, 3, False),
        (3, 3, True),
        (3, 7, True),
        (3, 8, False),
        (100, 1000, False),
        (400, 1000, False),
        (401, 1000, True),
    ],
)
def test_silence_of_many_is_not_believed(silent: int, judged: int, *, frozen: bool) -> None:
    assert (mass_silence(silent, judged) is not None) is frozen


def test_the_times_leave_room_for_the_promise() -> None:
    assert BROKEN_LOST_S + SWEEP_S <= 2.0, "3 s of the 5 belong to signalling and the client"
    assert SILENT_LOST_S + SWEEP_S < 4.0
    assert SILENT_SUSPECT_S >= 3 * REPORT_INTERVAL_S
    assert SILENT_SUSPECT_S < SILENT_LOST_S < STALE_S
    assert LARGE_FLEET_S < WRITTEN_EVERY_S < STALE_S / 2
