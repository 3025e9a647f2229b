import asyncio
import gc

import pytest

from controlplane.adapters import garbage


async def test_what_lives_is_set_aside_and_given_back_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "EVERY_S", 0.01)
    before = gc.get_freeze_count()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(garbage.collect_garbage())
        await asyncio.sleep(0.1)
        assert gc.get_freeze_count() > before + 1000
        task.cancel()
    assert gc.get_freeze_count() == 0
