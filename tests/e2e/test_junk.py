"""A call goes on, in time, while every UDP port of its node is flooded; and the log stays as it is."""

import asyncio
from pathlib import Path

import pytest

from tests.bench.junk import measure

FLOOD_S = 8.0

ATTEMPTS = 3
"""The best counts: what else this machine does can only add."""


@pytest.mark.e2e
async def test_a_call_hardly_notices_a_flood_of_junk(tmp_path: Path) -> None:
    seen = []
    for attempt in range(ATTEMPTS):
        directory = tmp_path / str(attempt)
        await asyncio.to_thread(directory.mkdir)
        figures = await measure(FLOOD_S, directory)
        seen.append(figures)
        assert figures.flooded.junk_per_s > 20_000, "the sender got no time: nothing was tried"
        assert figures.log_bytes <= 10_000, figures
        if figures.added_p99_ms <= 20 and figures.flooded.lost < 0.01:
            return
    pytest.fail(str(seen))
