"""What is true of the store in memory alone: its bounds."""

import pytest

from controlplane.core.model import ParticipantId, RoomId
from controlplane.store import view
from controlplane.store.memory import MemoryStore
from tests.store.build import NOW, admitted, end, proposal, take


async def test_the_event_log_is_a_ring_and_says_when_it_turned() -> None:
    store = MemoryStore(max_events=5)
    for number in range(12):
        await store.append_event("node.ready", {"n": number}, now=NOW)
    events = await take(store.events(after="3"), 6)
    assert (events[0].type, dict(events[0].data)) == ("stream.reset", {"oldest": "8"})
    assert [one.id for one in events] == ["7", "8", "9", "10", "11", "12"]
    assert [one.id for one in await take(store.events(after="7"), 1)] == ["8"]


async def test_a_slow_reader_is_told_what_it_missed() -> None:
    store = MemoryStore(max_events=5)
    await store.append_event("node.ready", {}, now=NOW)
    events = store.events(after="0")
    await take(events, 1)
    for _ in range(20):
        await store.append_event("node.ready", {}, now=NOW)
    assert (await take(events, 1))[0].type == "stream.reset"
    assert [one.id for one in await take(events, 5)] == ["17", "18", "19", "20", "21"]


async def test_epochs_begin_where_they_are_told_to() -> None:
    store = MemoryStore(first=1_790_000_000)
    assert (await admitted(store, proposal())).epoch == 1_790_000_000
    assert await store.last_event_id() == "1790000000"


async def test_forgetting_an_epoch_never_lets_one_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "MAX_LEFT", 3)
    store = MemoryStore()
    given: dict[str, int] = {}
    for number in range(40):
        who = f"p{number % 7}"
        epoch = (await admitted(store, proposal(who, session=f"s{number}"))).epoch
        assert epoch > given.get(who, 0)
        given[who] = epoch
        await end(store, who)
    remembered = [
        who for who in given if await store.last_epoch(RoomId("standup"), ParticipantId(who))
    ]
    assert len(remembered) == 3
