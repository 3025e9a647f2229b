"""What every store guarantees of nodes, of what sessions teach, and of what operators want."""

import asyncio
import math
from dataclasses import replace

import pytest

from controlplane.core.learned import RttSample
from controlplane.core.model import (
    Candidate,
    Drain,
    LinkStatus,
    Location,
    Node,
    NodeId,
    ParticipantId,
    RegionId,
    RoomId,
    RttEstimate,
    RttSource,
    TrackStatus,
)
from controlplane.core.session import NO_FIGURES, LinkFigures, LinkReport
from controlplane.store.base import Conflict, Store
from tests.core.build import node as a_node
from tests.store.build import (
    NOW,
    admit,
    admitted,
    admitted_again,
    end,
    moved_to,
    proposal,
)

ANA = (RoomId("standup"), ParticipantId("ana"))
ROOM = RoomId("standup")


# --- hints ----------------------------------------------------------------------------------------


async def test_nodes_are_remembered_until_dropped(store: Store) -> None:
    first, second = a_node("fra-1", "eu-frankfurt"), a_node("vir-1", "us-virginia")
    await store.put_node(first)
    await store.put_node(second)
    changed: Node = replace(first, load=0.5)
    await store.put_node(changed)
    assert await store.nodes() == {first.id: changed, second.id: second}
    await store.drop_node(first.id)
    await store.drop_node(first.id)
    assert await store.nodes() == {second.id: second}


async def test_what_a_node_reports_is_written_back_for_the_live_epoch_only(store: Store) -> None:
    first = await admitted(store, proposal())
    track = TrackStatus("t1", "audio", "opus")
    noted = replace(first, tracks=(track,), live=True, expires_at=NOW + 99, session="ignored")
    await store.note_sessions(NodeId("fra-1"), {ANA: noted}, now=NOW)
    found = await store.assignment(*ANA)
    assert found == replace(first, tracks=(track,), live=True, expires_at=NOW + 99)
    second = await admitted(store, moved_to(first, "vir-1"), replaces=first.epoch)
    await store.note_sessions(NodeId("fra-1"), {ANA: noted}, now=NOW)
    assert await store.assignment(*ANA) == second
    await end(store)
    await store.note_sessions(NodeId("fra-1"), {ANA: noted}, now=NOW)
    assert await store.assignment(*ANA) is None


async def test_of_reported_round_trips_those_of_the_call_are_written_and_counted(
    store: Store,
) -> None:
    first = await admitted(store, proposal())
    here, there = first.region, RegionId("us-virginia")
    in_call = RttEstimate(21.0, 2.0, RttSource.SESSION)
    noted = replace(first, rtts={**first.rtts, here: in_call})
    probes = {here: RttEstimate(7.0, 1.0, RttSource.PROBE), there: first.rtts[here]}
    await admit(store, replace(proposal(), rtts=probes))
    await store.note_sessions(first.node, {ANA: noted}, now=NOW)
    found = await store.assignment(*ANA)
    assert found is not None
    assert found.rtts == {here: in_call, there: first.rtts[here]}
    assert (await store.sums(ROOM))[first.node].publisher_us == 21_000
    await store.note_sessions(first.node, {ANA: first}, now=NOW)
    assert await store.assignment(*ANA) == found, "nothing is taken back"


async def test_links_are_replaced_per_sender(store: Store) -> None:
    fra, vir = NodeId("fra-1"), NodeId("vir-1")
    there = LinkReport(ROOM, vir, "up", ("t1",))
    other = LinkReport(RoomId("other"), vir, "up")
    both = [other, there]
    back = LinkStatus(ROOM, vir, fra, "connecting")
    await store.put_links(fra, both, LinkFigures([9, 5], [2, 1], [0, 3]))
    await store.put_links(vir, [LinkReport(ROOM, fra, "connecting")], NO_FIGURES)
    known = LinkStatus(ROOM, fra, vir, "up", ("t1",), packets=5, repaired=1, lost=3)
    assert list(await store.links(ROOM)) == [known, back]
    await store.put_links(fra, both, LinkFigures([9, 50], [2, 10], [0, 3]))
    known = replace(known, packets=50, repaired=10)
    assert list(await store.links(ROOM)) == [known, back]
    await store.put_links(fra, [other], NO_FIGURES)
    assert list(await store.links(ROOM)) == [back]
    await store.put_node(a_node("vir-1", "us-virginia"))
    await store.drop_node(NodeId("vir-1"))
    assert list(await store.links(ROOM)) == []


async def test_what_sessions_teach_is_known_of_their_network(store: Store) -> None:
    here, there = RegionId("eu-frankfurt"), RegionId("us-virginia")
    network, other = "203.0.113.0/24", "2001:db8:7::/48"
    assert await store.learned(network, now=NOW) == {}
    await store.learn(
        [
            RttSample(network, here, 20.0, "ana"),
            RttSample(network, there, 110.0, "ana"),
            RttSample(other, here, 35.0, "bob"),
            RttSample("", here, 1.0, "cem"),
            RttSample(network, here, math.nan, "dan"),
            RttSample(network, here, -1.0, "eve"),
        ],
        now=NOW,
    )
    found = await store.learned(network, now=NOW + 5)
    assert {region: rtt.rtt_ms for region, rtt in found.items()} == pytest.approx(
        {here: 20.0, there: 110.0}, abs=0.2
    )
    assert found[here].source is RttSource.LEARNED
    assert found[here].age_s == pytest.approx(5, abs=1)
    assert list(await store.learned(other, now=NOW)) == [here]
    assert await store.learned("", now=NOW) == {}
    assert await store.learned("198.51.100.0/24", now=NOW) == {}


async def test_one_person_has_one_vote_in_what_is_learned(store: Store) -> None:
    network, here = "203.0.113.0/24", RegionId("eu-frankfurt")
    await store.learn([RttSample(network, here, 20.0, who) for who in ("ana", "bob")], now=NOW)
    for second in range(20):
        await store.learn([RttSample(network, here, 900.0, "liar")], now=NOW + second)
    found = await store.learned(network, now=NOW + 20)
    assert found[here].rtt_ms == pytest.approx(20.0, abs=0.2)


# --- what operators want, and replicas ------------------------------------------------------------


async def test_drains_are_kept_until_they_are_dropped(store: Store) -> None:
    one, two = NodeId("fra-1"), NodeId("fra-2")
    wanted = Drain(deadline_at=NOW + 60, reason="new kernel", pace=2.5)
    await store.put_drain(one, Drain(deadline_at=NOW, reason=""))
    await store.put_drain(one, wanted)
    await store.put_drain(two, replace(wanted, done=True))
    assert await store.drains() == {one: wanted, two: replace(wanted, done=True)}
    await store.drop_drain(one)
    await store.drop_drain(one)
    assert list(await store.drains()) == [two]
    await store.drop_node(two)
    assert await store.drains() == {}


async def test_a_join_token_is_good_once_and_for_who_has_its_secret(store: Store) -> None:
    await store.put_join_token("t1", "digest", "eu-frankfurt", ttl_s=60, now=NOW)
    assert await store.take_join_token("t2", "digest", now=NOW) is None
    assert await store.take_join_token("t1", "other", now=NOW) is None
    taken = await asyncio.gather(
        *(store.take_join_token("t1", "digest", now=NOW + 1) for _ in range(5))
    )
    assert sorted(taken, key=str) == [None] * 4 + ["eu-frankfurt"]


async def test_replicas_know_where_nodes_reach_them(store: Store) -> None:
    await store.announce("203.0.113.1:7443", now=NOW)
    (own,) = (await store.replicas()).values()
    assert (own.id, own.target) == (store.replica, "203.0.113.1:7443")


async def test_a_healthy_store_says_so(store: Store) -> None:
    await admitted(store, proposal())
    health = await store.health()
    assert (health.mode, health.why) == ("normal", "")


async def test_a_lease_that_was_pushed_meanwhile_is_not_ended(store: Store) -> None:
    first = await admitted(store, proposal())
    await admitted_again(store, now=NOW + 30)
    ended = await store.end(*ANA, epoch=first.epoch, reason="", now=NOW + 61, if_expired=True)
    assert ended is None
    assert await store.assignment(*ANA) is not None


async def test_a_decision_comes_back_as_it_was(store: Store) -> None:
    """To the microsecond: what is finer is noise."""
    wanted = proposal()
    odd = Candidate(
        RegionId("us-virginia"),
        None,
        RttEstimate(88.1234567, 30.0, RttSource.VIA_MESH, 17.25),
        None,
        {},
        "draining: nobody new",
        {NodeId("vir-1"): "draining: an operator empties it"},
    )
    decision = replace(
        wanted.decision,
        candidates=(*wanted.decision.candidates, odd),
        fallbacks=(NodeId("vir-2"),),
        location=Location(50.1, 8.7, 20.0),
        location_source="geo",
        others=3,
    )
    await admitted(store, replace(wanted, decision=decision, moved_at=NOW - 5))
    found = await store.assignment(*ANA)
    assert found is not None
    rounded = odd._replace(rtt=odd.rtt._replace(rtt_ms=88.123))
    candidates = (*wanted.decision.candidates, rounded)
    assert found.decision == replace(decision, candidates=candidates)
    assert found.decision.candidates[-1] == rounded
    assert list(found.decision.candidates[:1]) == list(wanted.decision.candidates)


# --- places ---------------------------------------------------------------------------------------


async def test_a_node_gets_as_many_as_it_takes(store: Store) -> None:
    await store.put_node(replace(a_node("fra-1", "eu-frankfurt"), capacity=2))
    first = await admitted(store, proposal("ana"))
    await admitted(store, proposal("bob"))
    cem = proposal("cem")
    assert await admit(store, cem) == Conflict(None, full=cem.node)
    again = await admitted(store, proposal("ana", session="s2"), replaces=first.epoch)
    assert again.node == first.node, "the place is hers already"
    assert await end(store, "bob") is not None
    assert (await admitted(store, cem)).node == "fra-1"


async def test_a_lease_that_is_over_holds_no_place(store: Store) -> None:
    await store.put_node(replace(a_node("fra-1", "eu-frankfurt"), capacity=1))
    first = await admitted(store, proposal("ana"))
    bob = proposal("bob", now=first.expires_at)
    assert await admit(store, bob, now=first.expires_at - 1) == Conflict(None, full=bob.node)
    assert (await admitted(store, bob, now=first.expires_at)).node == "fra-1"


async def test_who_was_let_in_by_a_node_is_not_refused_for_its_places(store: Store) -> None:
    await store.put_node(replace(a_node("fra-1", "eu-frankfurt"), capacity=1))
    await admitted(store, proposal("ana"))
    assert (await admitted(store, replace(proposal("bob"), live=True))).node == "fra-1"


async def test_many_at_once_get_the_places_that_there_are(store: Store) -> None:
    await store.put_node(replace(a_node("fra-1", "eu-frankfurt"), capacity=7))
    outcomes = await asyncio.gather(*(admit(store, proposal(f"p{i}")) for i in range(20)))
    refused = [one for one in outcomes if isinstance(one, Conflict)]
    assert len(outcomes) - len(refused) == len(await store.assignments_on(NodeId("fra-1"))) == 7
    assert {one.full for one in refused} == {"fra-1"}
