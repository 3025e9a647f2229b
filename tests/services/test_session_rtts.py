"""From the reports of nodes to what is known of networks and participants."""

from dataclasses import replace

import pytest

from controlplane.core.model import (
    Node,
    NodeId,
    NodeState,
    ParticipantId,
    RegionId,
    RoomId,
    RttSource,
)
from controlplane.core.session import NodeReport, ParticipantReport
from controlplane.core.session_rtt import Key
from controlplane.services.session_rtts import SessionRtts
from controlplane.store.memory import MemoryStore
from tests.store.build import NOW, admitted, proposal

FRA = RegionId("eu-frankfurt")
NETWORK = "203.0.113.0/24"
NODE = Node(
    NodeId("fra-1"), FRA, "http://fra-1.test", "192.0.2.1", 1, "fra-1.test:1", 100, "embedded", "0",
    NodeState.SERVING, NOW, NOW,
)  # fmt: skip


def key(who: str) -> Key:
    return RoomId("standup"), ParticipantId(who)


async def told(
    session_rtts: SessionRtts, *reports: ParticipantReport, rtt_ms: float = 20.0
) -> dict[Key, float]:
    """Report these for ten seconds and a half; return the figures that came."""
    found: dict[Key, float] = {}
    for half in range(21):
        report = NodeReport(half, 0.1, reports, client_rtts=[rtt_ms] * len(reports))
        figures = await session_rtts.take(NODE, report, now=NOW + half / 2)
        assert all(one.source is RttSource.SESSION for one in figures.values())
        found |= {who: one.rtt_ms for who, one in figures.items()}
    return found


async def test_a_live_session_tells_of_itself_and_teaches_its_network() -> None:
    store = MemoryStore()
    ana = await admitted(store, replace(proposal("ana"), network=NETWORK))
    session_rtts = SessionRtts(store)
    found = await told(session_rtts, ParticipantReport(*key("ana"), ana.epoch))
    assert found == {key("ana"): 20.0}
    learned = await store.learned(NETWORK, now=NOW + 11)
    assert learned[FRA].rtt_ms == pytest.approx(20.0, abs=0.2)


async def test_who_has_no_known_network_teaches_nothing_and_is_told_of() -> None:
    store = MemoryStore()
    ana = await admitted(store, proposal("ana"))
    found = await told(SessionRtts(store), ParticipantReport(*key("ana"), ana.epoch))
    assert found == {key("ana"): 20.0}
    assert await store.learned("", now=NOW) == {}


async def test_sessions_that_do_not_belong_here_count_for_nothing() -> None:
    store = MemoryStore()
    old = await admitted(store, replace(proposal("ana"), network=NETWORK))
    elsewhere = await admitted(store, replace(proposal("bob", node="vir-1"), network=NETWORK))
    found = await told(
        SessionRtts(store),
        ParticipantReport(*key("ana"), old.epoch - 1),
        ParticipantReport(*key("bob"), elsewhere.epoch),
        ParticipantReport(*key("cem"), 7),
    )
    assert found == {}
    assert await store.learned(NETWORK, now=NOW) == {}


async def test_who_joins_again_and_again_has_one_vote() -> None:
    store = MemoryStore()
    session_rtts = SessionRtts(store)
    for who in ("ana", "bob"):
        seat = await admitted(store, replace(proposal(who), network=NETWORK))
        await told(session_rtts, ParticipantReport(*key(who), seat.epoch))
    replaces = None
    for attempt in range(4):
        wanted = replace(proposal("liar", session=f"s{attempt}"), network=NETWORK)
        seat = await admitted(store, wanted, replaces=replaces)
        replaces = seat.epoch
        await told(session_rtts, ParticipantReport(*key("liar"), seat.epoch), rtt_ms=900.0)
    learned = await store.learned(NETWORK, now=NOW + 11)
    assert learned[FRA].rtt_ms == pytest.approx(20.0, abs=0.2)


async def test_where_distances_are_pretended_nothing_measured_counts() -> None:
    store = MemoryStore()
    ana = await admitted(store, replace(proposal("ana"), network=NETWORK))
    session_rtts = SessionRtts(store, declared_only=True)
    report = ParticipantReport(*key("ana"), ana.epoch)
    assert await told(session_rtts, report, rtt_ms=0.4) == {}
    assert await store.learned(NETWORK, now=NOW) == {}


async def test_a_node_that_is_gone_leaves_nothing_behind() -> None:
    store = MemoryStore()
    ana = await admitted(store, replace(proposal("ana"), network=NETWORK))
    session_rtts = SessionRtts(store)
    report = NodeReport(0, 0.1, (ParticipantReport(*key("ana"), ana.epoch),))
    await session_rtts.take(NODE, report, now=NOW)
    session_rtts.forget(NODE.id)
    assert len(session_rtts._windows) == 0
