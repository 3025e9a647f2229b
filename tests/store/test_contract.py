"""What every store guarantees; see controlplane/store/base.py."""

import asyncio
from dataclasses import replace

import pytest

from controlplane.core.learned import RttSample
from controlplane.core.model import (
    NodeId,
    ParticipantId,
    RegionId,
    RoomId,
)
from controlplane.store.base import Admitted, Conflict, Store
from tests.store.build import (
    NOW,
    admit,
    admitted,
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
    told = [(one.type, dict(one.data)) for one in events]
    # Those of one room are in order, and those of none; a store may keep rooms apart.
    assert [one for one in told if "room" in one[1]] == [
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
    ]
    assert [one for one in told if "room" not in one[1]] == [
        ("topology.changed", {"version": 1}),
        ("node.lost", {"node": "fra-1"}),
    ]
    assert [one.at for one in events if one.type == "participant.moved"] == [NOW + 1]
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
