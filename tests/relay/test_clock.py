"""The node's clocks."""

import time

import pytest

from relay.transport.clock import ntp, wall


def test_setting_the_wall_clock_moves_no_sender_report(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ntp()
    assert abs(before - wall() - 2_208_988_800) < 5
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= ntp() - before < 5
