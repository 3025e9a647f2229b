"""What every store guarantees; see controlplane/store/base.py."""

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
from controlplane.store.base import Admitted, Conflict, Store
from tests.core.build import node as a_node
from tests.store.build import (
    NOW,
    admit,
    admitted,
    admitted_again,
    amounts,
    end,
    ended_log,
    moved_to,
    proposal,
    take,
)

ANA = (RoomId("standup"), ParticipantId("ana"))
ROOM = RoomId("standup")


# --- admission ------------------------------------------------------------------------------------


async def test_the_first_admission_is_in_force(store: Store) -> None:
    outcome = await admit(store, proposal())
    assert isinstance(outcome, Admitted)
    assert outcome.created
    assert outcome.assignment.epoch > 0
    assert await store.assignment(*ANA) == outcome.assignment
    assert (await store.room(ROOM)).assignments == {ANA[1]: outcome.assignment}
    assert list(await store.assignments_on(NodeId("fra-1"))) == [outcome.assignment]


async def test_the_same_session_gets_the_same_assignment_again(store: Store) -> None:
    first = await admitted(store, proposal(node="fra-1"))
    outcome = await admit(store, proposal(node="vir-1", now=NOW + 10))
    assert isinstance(outcome, Admitted)
    assert not outcome.created
    assert outcome.assignment == replace(first, expires_at=NOW + 70)
    assert [one.type for one in await ended_log(store)] == ["participant.assigned"]


async def test_a_repeated_admission_never_shortens_the_lease_and_keeps_what_was_known(
    store: Store,
) -> None:
    first = await admitted(store, proposal(now=NOW + 10))
    outcome = await admit(store, replace(proposal(now=NOW), rtts={}))
    assert isinstance(outcome, Admitted)
    assert outcome.assignment == first


async def test_a_repeated_admission_brings_newer_round_trips(store: Store) -> None:
    first = await admitted(store, proposal())
    newer = {region: rtt._replace(rtt_ms=9.0) for region, rtt in first.rtts.items()}
    outcome = await admit(store, replace(proposal(), rtts=newer, network="203.0.113.0/24"))
    assert isinstance(outcome, Admitted)
    assert outcome.assignment == replace(first, rtts=newer, network="203.0.113.0/24")
    assert await store.assignment(*ANA) == outcome.assignment


async def test_an_epoch_that_somebody_knows_is_passed(store: Store) -> None:
    known = (await admitted(store, proposal())).epoch + (1 << 30)
    assert await end(store) is not None
    first = await admitted(store, replace(proposal(), epoch=known))
    assert first.epoch > known
    again = await admitted(store, proposal(session="s2"), replaces=first.epoch)
    assert again.epoch > first.epoch


async def test_totals(store: Store) -> None:
    assert await amounts(store) == (0, 0, 0)
    await admitted(store, proposal("ana"))
    await admitted(store, proposal("bob"))
    await admitted(store, proposal("cem", room="other"))
    assert await amounts(store) == (2, 3, 0)
    await end(store, "bob")
    await store.learn([RttSample("203.0.113.0/24", RegionId("r"), 20.0, "ana")], now=NOW)
    assert await amounts(store) == (2, 2, 1)


async def test_another_session_has_to_name_what_it_replaces(store: Store) -> None:
    first = await admitted(store, proposal(session="s1"))
    outcome = await admit(store, proposal(session="s2"))
    assert outcome == Conflict(first)
    second = await admitted(store, proposal(session="s2", node="vir-1"), replaces=first.epoch)
    assert (second.session, second.node) == ("s2", "vir-1")
    assert second.epoch > first.epoch
    assert list(await store.assignments_on(NodeId("fra-1"))) == []
    assert list(await store.assignments_on(NodeId("vir-1"))) == [second]


async def test_who_replaces_an_epoch_that_is_gone_is_told(store: Store) -> None:
    first = await admitted(store, proposal())
    second = await admitted(store, moved_to(first, "vir-1"), replaces=first.epoch)
    assert await admit(store, moved_to(first, "sin-1"), replaces=first.epoch) == Conflict(second)
    await end(store)
    assert await admit(store, moved_to(first, "sin-1"), replaces=second.epoch) == Conflict(None)
    assert await store.assignment(*ANA) is None


async def test_of_many_at_once_one_is_admitted(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(admit(store, proposal(session=f"s{i}", node=f"n{i}")) for i in range(20))
    )
    winners = [one for one in outcomes if isinstance(one, Admitted)]
    assert len(winners) == 1
    assert all(
        one.current == winners[0].assignment for one in outcomes if isinstance(one, Conflict)
    )


async def test_epochs_grow_across_leave_and_join(store: Store) -> None:
    last = 0
    for session in ("s1", "s2", "s3"):
        epoch = (await admitted(store, proposal(session=session))).epoch
        assert epoch > last
        assert await store.last_epoch(*ANA) == epoch
        assert await end(store) is not None
        last = epoch
    assert await store.last_epoch(*ANA) == last
    assert await store.last_epoch(ROOM, ParticipantId("bob")) == 0


async def test_ending_returns_what_ended_and_only_the_named_epoch(store: Store) -> None:
    first = await admitted(store, proposal())
    assert await end(store, epoch=7) is None
    assert await end(store, "bob") is None
    assert await end(store, epoch=first.epoch) == first
    assert await end(store) is None
    assert (await store.room(ROOM)).assignments == {}
    assert list(await store.assignments_on(NodeId("fra-1"))) == []


# --- reads ----------------------------------------------------------------------------------------


async def test_a_room_that_was_read_does_not_change(store: Store) -> None:
    first = await admitted(store, proposal())
    before = await store.room(ROOM)
    await end(store)
    assert before.assignments == {ANA[1]: first}


async def test_rooms_come_in_order_and_in_pages(store: Store) -> None:
    for name in ("c", "a", "e", "b", "d"):
        await admitted(store, proposal(room=name))
    first = await store.rooms(after=None, limit=2)
    assert [room.id for room in first] == ["a", "b"]
    assert len(first[0].assignments) == 1
    rest = await store.rooms(after=first[-1].id, limit=10)
    assert [room.id for room in rest] == ["c", "d", "e"]
    assert list(await store.rooms(after=RoomId("e"), limit=10)) == []
    await end(store, room="c")
    assert [room.id for room in await store.rooms(after=RoomId("b"), limit=1)] == ["d"]


async def test_rooms_of_one_tenant(store: Store) -> None:
    for name in ("acme:a", "acme-2:a", "b", "acme:b", "a"):
        await admitted(store, proposal(room=name))

    async def page(tenant: str, after: str | None, limit: int) -> list[str]:
        last = None if after is None else RoomId(after)
        return [one.id for one in await store.rooms(after=last, limit=limit, tenant=tenant)]

    assert await page("acme", None, 10) == ["acme:a", "acme:b"]
    assert await page("acme", "acme:a", 10) == ["acme:b"]
    assert await page("default", None, 1) == ["a"]
    assert await page("default", "a", 10) == ["b"]
    assert await page("nobody", None, 10) == []


async def test_leases_that_are_over_are_found(store: Store) -> None:
    for index in range(5):
        await admitted(store, proposal(f"p{index}", now=NOW + index))
    over = await store.expired(now=NOW + 62, limit=10)
    assert sorted(one.participant for one in over) == ["p0", "p1", "p2"]
    assert len(await store.expired(now=NOW + 1000, limit=2)) == 2
    assert list(await store.expired(now=NOW + 59, limit=10)) == []


async def test_the_topology_is_replaced_only_by_who_read_it(store: Store) -> None:
    assert await store.topology() is None
    assert await store.put_topology("a: 1", expect_version=0, now=NOW) == 1
    assert await store.put_topology("b: 1", expect_version=0, now=NOW) is None
    assert await store.put_topology("b: 2", expect_version=2, now=NOW) is None
    assert await store.put_topology("c: 1", expect_version=1, now=NOW) == 2
    stored = await store.topology()
    assert stored is not None
    assert (stored.version, stored.text) == (2, "c: 1")


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
    there = LinkStatus(ROOM, NodeId("fra-1"), NodeId("vir-1"), "up", ("t1",), 5, 1, 0)
    back = LinkStatus(ROOM, NodeId("vir-1"), NodeId("fra-1"), "connecting")
    other = LinkStatus(RoomId("other"), NodeId("fra-1"), NodeId("vir-1"), "up")
    await store.put_links(NodeId("fra-1"), [there, other])
    await store.put_links(NodeId("vir-1"), [back])
    assert set(await store.links(ROOM)) == {there, back}
    await store.put_links(NodeId("fra-1"), [other])
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


# --- events ---------------------------------------------------------------------------------------


async def test_every_change_leaves_its_event(store: Store) -> None:
    first = await admitted(store, proposal())
    move = replace(first.decision, node=NodeId("vir-1"), because=("node fra-1 lost", "why not"))
    await store.admit(
        replace(first, node=NodeId("vir-1"), decision=move),
        replaces=first.epoch,
        event="participant.moved",
        now=NOW + 1,
    )
    await end(store)
    await store.put_topology("a: 1", expect_version=0, now=NOW + 3)
    await store.append_event("node.lost", {"node": "fra-1"}, now=NOW + 4)
    events = await take(store.events(after=""), 5)
    assert len({one.id for one in events}) == 5
    second = await store.last_epoch(*ANA)
    who = {"room": "standup", "participant": "ana"}
    here = {"region": "eu-frankfurt"}
    assert [(one.type, dict(one.data)) for one in events] == [
        (
            "participant.assigned",
            {
                **who,
                **here,
                "node": "fra-1",
                "epoch": first.epoch,
                "because": ["it is the nearest"],
            },
        ),
        (
            "participant.moved",
            {
                **who,
                **here,
                "node": "vir-1",
                "epoch": second,
                "from_node": "fra-1",
                "reason": "node fra-1 lost",
            },
        ),
        ("participant.ended", {**who, "epoch": second, "reason": "left"}),
        ("topology.changed", {"version": 1}),
        ("node.lost", {"node": "fra-1"}),
    ]
    assert events[1].at == NOW + 1
    assert await store.last_event_id() == events[-1].id


async def test_a_reader_resumes_where_it_was_and_waits_for_more(store: Store) -> None:
    for number in range(3):
        await store.append_event("node.ready", {"n": number}, now=NOW)
    (_, second, third) = await take(store.events(after=""), 3)
    events = store.events(after=second.id)
    assert await take(events, 1) == [third]
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(take(events, 2))
        await asyncio.sleep(0)
        for number in (3, 4):
            await store.append_event("node.ready", {"n": number}, now=NOW)
    assert [one.data["n"] for one in waiting.result()] == [3, 4]


async def test_a_reader_begins_with_what_happens_next(store: Store) -> None:
    await store.append_event("node.ready", {"n": 0}, now=NOW)
    await take(store.events(after=""), 1)
    events = store.events(after=await store.last_event_id())
    await store.append_event("node.ready", {"n": 1}, now=NOW)
    assert [one.data["n"] for one in await take(events, 1)] == [1]


@pytest.mark.parametrize("id_", ["500000000000000", "17.5", "x", "9" * 40])
async def test_a_reader_from_another_life_is_told_to_start_anew(store: Store, id_: str) -> None:
    await store.append_event("node.ready", {"n": 1}, now=NOW)
    await take(store.events(after=""), 1)
    reset, first = await take(store.events(after=id_), 2)
    assert (reset.type, first.data) == ("stream.reset", {"n": 1})
    assert reset.data == {"oldest": first.id}
    assert await take(store.events(after=reset.id), 1) == [first]


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
