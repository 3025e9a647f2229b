"""Better places during the call: when, how many, and what goes on meanwhile."""

import asyncio
from collections.abc import Sequence

import pytest

from controlplane.core.explain import runner_up
from controlplane.core.model import Assignment, Location, NodeId, ParticipantId, RegionId, RoomId
from controlplane.core.rehome import AGAIN_AFTER_S
from controlplane.core.session import PeerRtt
from controlplane.core.session_rtt import CALM_S
from controlplane.services.cascade import MOVE_GRACE_S
from controlplane.services.changed_rooms import LATEST_S, QUIET_S
from controlplane.services.planning import Planning
from controlplane.services.rehoming import CONNECTING_S, REST_S, ROOMS_PER_SWEEP, THREAD_FROM
from controlplane.store.base import Admitted, Conflict
from controlplane.store.memory import MemoryStore
from tests.services.system import ROOM, System, a_join, parse

ANA = ParticipantId("ana")
FRA, PAR, VIR = NodeId("fra-1"), NodeId("par-1"), NodeId("vir-1")
PARISIANS = ("bob", "cem", "dan")
LOOKED_AT_S = QUIET_S + 0.5
"""By then a room that has been quiet since has been looked at."""


async def europe(more: str = "", store: MemoryStore | None = None) -> System:
    """One node in each of Frankfurt and Paris, 10 ms apart."""
    system = System(store=store)
    await system.topologies.load(f"eu-frankfurt eu-paris us-virginia {more}")
    await system.serving("fra-1", "eu-frankfurt", capacity=400)
    await system.serving("par-1", "eu-paris", capacity=400)
    return system


async def parisians_in_frankfurt(
    system: System, room: RoomId = ROOM, people: Sequence[str] = PARISIANS
) -> None:
    """Ana opens a room in Frankfurt, Parisians join her there, and she leaves."""
    await system.joins.join(a_join("ana", "frankfurt", room=room))
    for who in people:
        joined = await system.joins.join(a_join(who, "paris", room=room, client_ip="203.0.113.9"))
        assert joined.node.id == FRA
        system.arrive(joined)
    await system.joins.leave(room, ANA)


async def sweep_when_quiet(system: System) -> None:
    """One sweep of what changed at the beginning; the nodes have just reported."""
    await system.run(QUIET_S - 0.5)
    system.clock.advance(0.5)
    await system.rehoming.sweep()


async def connect(system: System, room: RoomId = ROOM) -> None:
    """Everybody follows: a session on the new node, and the old one is over."""
    for one in (await system.store.room(room)).assignments.values():
        for node in system.nodes.values():
            node.here.pop((one.room, one.participant), None)
        system.nodes[one.node].here[one.room, one.participant] = one.epoch


async def test_who_stays_behind_is_moved_to_where_the_room_is_better() -> None:
    system = await europe()
    await parisians_in_frankfurt(system)
    await system.run(QUIET_S - 0.5)
    assert await system.events("participant.moved") == []
    await system.run(1)
    events = await system.events("participant.moved")
    assert [one.data["participant"] for one in events] == list(PARISIANS)
    assert {(one.data["from_node"], one.data["node"]) for one in events} == {(FRA, PAR)}
    reason = str(events[0].data["reason"])
    assert reason.startswith("moved from Frankfurt to Paris: the room's mean falls by ")
    one = (await system.joins.look(ROOM, ParticipantId("bob"))).assignment
    assert (one.node, one.region, one.epoch, one.live) == (PAR, RegionId("eu-paris"), 2, False)
    assert (one.network, one.moved_at) == ("203.0.113.0/24", one.assigned_at)
    assert one.decision.because[:2] == (reason, "Paris answers in 4 ms (probe)")
    assert one.decision.fallbacks == (FRA,)
    assert system.rehomed.value == 3
    await connect(system)
    await system.run(2 * AGAIN_AFTER_S)
    assert len(await system.events("participant.moved")) == 3, "it ends there"
    assert (await system.join("bob", "paris")).node.id == PAR
    assert (await system.fleet.node(PAR)).placed == 0


async def test_the_decision_of_a_move_knows_its_rival() -> None:
    system = await europe()
    await parisians_in_frankfurt(system)
    await system.run(LOOKED_AT_S)
    first, *_, last = [
        (await system.joins.look(ROOM, ParticipantId(who))).assignment.decision for who in PARISIANS
    ]
    for decision in (first, last):
        rival = runner_up(decision)
        assert rival is not None
        assert rival[0].region == "eu-frankfurt"
    alone, together = runner_up(first), runner_up(last)
    assert alone is not None
    assert together is not None
    assert alone[1] < together[1], "the first one moves for the sake of the others"


async def test_the_old_place_goes_on_until_the_new_one_is_live() -> None:
    system = await europe()
    await system.serving("vir-1", "us-virginia")
    system.nodes["par-1"].rtts = (PeerRtt(VIR, RegionId("us-virginia"), 85.0),)
    await system.report(system.nodes["par-1"])
    await parisians_in_frankfurt(system, people=(*PARISIANS, "eve"))
    system.arrive(await system.join("gus", "virginia"))
    await system.run(LOOKED_AT_S)
    assert len(await system.events("participant.moved")) == 4
    old = await system.fleet.snapshot(FRA)
    assert old.end_sessions == ()
    assert {(one.from_node, one.to_node) for one in old.links} == {
        (FRA, VIR), (VIR, FRA), (FRA, PAR), (PAR, FRA),
    }  # fmt: skip
    for one in (await system.store.room(ROOM)).assignments.values():
        system.nodes[one.node].here[one.room, one.participant] = one.epoch
    await system.run(1)
    old = await system.fleet.snapshot(FRA)
    assert {one.reason for one in old.end_sessions} == {"moved to par-1"}
    assert len(old.end_sessions) == 4
    assert old.links
    await system.run(MOVE_GRACE_S)
    assert (await system.fleet.snapshot(FRA)).links == ()
    view = await system.rooms.view(ROOM)
    assert {(one.from_node, one.to_node) for one in view.links} == {(PAR, VIR), (VIR, PAR)}
    (*_, last) = await system.events("cascade.changed")
    assert len(last.data["links"]) == 2  # type: ignore[arg-type]


async def test_somebody_alone_leaves_no_links_behind() -> None:
    system = await europe()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(1)
    await system.fleet.drain(FRA, deadline_s=0, reason="kernel")
    await system.run(1)
    assert len(await system.events("participant.moved")) == 1
    assert await system.events("cascade.changed") == []


async def test_what_the_fleet_may_not_move_now_is_moved_a_minute_later() -> None:
    system = await europe("rehomes_per_fleet=4")
    rooms = [RoomId("a"), RoomId("b")]
    for room in rooms:
        await parisians_in_frankfurt(system, room)
    await system.run(LOOKED_AT_S)
    assert {one.data["room"] for one in await system.events("participant.moved")} == {"a"}
    for room in rooms:
        await connect(system, room)
    await system.run(AGAIN_AFTER_S - 1)
    assert len(await system.events("participant.moved")) == 3
    await system.run(3)
    assert len(await system.events("participant.moved")) == 6
    assert system.rehomed.value == 6


async def test_moves_are_spread_over_the_minute() -> None:
    system = await europe("rehomes_per_fleet=60")
    for room in ("a", "b"):
        await parisians_in_frankfurt(system, RoomId(room))
    await system.run(LOOKED_AT_S + REST_S + 1)
    moved = {one.data["room"]: one.at for one in await system.events("participant.moved")}
    assert moved["b"] - moved["a"] >= REST_S


@pytest.mark.parametrize("most", [0, 2])
async def test_a_fleet_limit_below_the_rooms_own_keeps_no_quiet_room_waiting(most: int) -> None:
    system = await europe(f"rehomes_per_fleet={most}")
    for who in ("ana", "bob", "cem"):
        system.arrive(await system.join(who, "frankfurt"))
    await system.run(3 * AGAIN_AFTER_S)
    assert (system.looked_at.value, len(system.changed)) == (1, 0)


async def test_who_is_still_connecting_is_not_sent_elsewhere() -> None:
    system = await europe()
    await parisians_in_frankfurt(system)
    late = await system.joins.join(a_join("eve", "paris"))
    assert late.node.id == FRA
    await system.run(CONNECTING_S - 2)
    assert await system.events("participant.moved") == []
    system.arrive(late)
    await system.run(LOOKED_AT_S)
    assert len(await system.events("participant.moved")) == 4


async def test_a_node_that_the_client_cannot_reach_stays_out() -> None:
    system = await europe()
    await parisians_in_frankfurt(system, people=("bob", "cem"))
    moved = await system.joins.join(a_join("dan", "paris", exclude=["par-1"]))
    assert moved.node.id == FRA
    system.arrive(moved)
    await system.run(3 * AGAIN_AFTER_S)
    assert (await system.joins.look(ROOM, ParticipantId("dan"))).node.id == FRA


class ContendedStore(MemoryStore):
    """Bob leaves, and Cem joins from another tab, just before they would be moved."""

    async def admit(
        self, proposal: Assignment, *, replaces: int | None, event: str, now: float
    ) -> Admitted | Conflict:
        if event == "participant.moved" and proposal.participant == "bob":
            await self.end(proposal.room, proposal.participant, epoch=None, reason="left", now=now)
        return await super().admit(proposal, replaces=replaces, event=event, now=now)


async def test_who_is_faster_is_left_alone() -> None:
    system = await europe(store=ContendedStore())
    await parisians_in_frankfurt(system, people=(*PARISIANS, "eve"))
    await system.run(LOOKED_AT_S)
    moved = [one.data["participant"] for one in await system.events("participant.moved")]
    assert moved == ["cem", "dan", "eve"]
    assert system.rehomed.value == 3
    assert (await system.fleet.node(PAR)).placed == 3
    assert ParticipantId("bob") not in (await system.store.room(ROOM)).assignments


async def test_a_move_that_somebody_has_to_make_is_no_rehome() -> None:
    system = await europe("rehomes_per_fleet=1")
    await parisians_in_frankfurt(system)
    await system.fleet.drain(FRA, deadline_s=0, reason="kernel")
    await system.run(1)
    assert len(await system.events("participant.moved")) == 3
    people = (await system.store.room(ROOM)).assignments.values()
    assert {one.moved_at for one in people} == {None}
    assert {one.network for one in people} == {"203.0.113.0/24"}
    await connect(system)
    await system.run(AGAIN_AFTER_S)
    assert system.rehomed.value == 0


async def apart() -> System:
    system = await europe()
    await system.serving("vir-1", "us-virginia")
    for who, place in (("ana", "frankfurt"), ("bob", "virginia")):
        system.arrive(await system.join(who, place))
    return system


async def test_a_round_trip_that_was_wrong_moves_somebody() -> None:
    system = await apart()
    system.nodes["fra-1"].measured[ROOM, ANA] = 200.0  # her probe said 5
    await system.run(60)
    (moved,) = await system.events("participant.moved")
    assert (moved.data["participant"], moved.data["node"]) == ("ana", "vir-1")


async def test_one_odd_sample_moves_nobody_nor_does_a_line_that_is_full_for_minutes() -> None:
    system = await apart()
    fra = system.nodes["fra-1"]
    for rtt, seconds in ((6.0, 20.0), (200.0, 0.5), (6.0, 60.0), (200.0, 300.0), (6.0, 60.0)):
        fra.measured[ROOM, ANA] = rtt
        await system.run(seconds)
    assert await system.events("participant.moved") == []


async def test_a_route_that_became_longer_for_good_moves_somebody_later() -> None:
    system = await apart()
    fra = system.nodes["fra-1"]
    fra.measured[ROOM, ANA] = 6.0
    await system.run(20)
    looks = system.looked_at.value
    fra.measured[ROOM, ANA] = 200.0
    await system.run(CALM_S + 30)
    (moved,) = await system.events("participant.moved")
    assert (moved.data["participant"], moved.data["node"]) == ("ana", "vir-1")
    assert system.looked_at.value > looks


async def test_figures_that_are_no_news_cost_no_looks() -> None:
    system = await europe()
    for who in ("ana", "bob", "cem"):
        system.arrive(await system.join(who, "frankfurt"))
        system.nodes["fra-1"].measured[ROOM, ParticipantId(who)] = 5.5
    await system.run(LATEST_S + 1)
    looks = system.looked_at.value
    await system.run(120)
    assert system.looked_at.value == looks == 1


async def test_a_burst_of_joins_is_looked_at_once() -> None:
    system = await europe()
    for index in range(20):
        await system.join(f"p{index}", "frankfurt")
        await system.run(0.5)
    await system.run(LATEST_S)
    assert system.looked_at.value == pytest.approx(10 / LATEST_S, abs=1)


async def test_a_large_room_is_planned_beside_the_event_loop() -> None:
    system = await europe("rehomes_per_room=40")
    for index in range(THREAD_FROM):
        system.arrive(await system.join(f"p{index:02}", "virginia"))
    await system.serving("vir-1", "us-virginia", capacity=400)
    await system.run(QUIET_S - 0.5)
    system.clock.advance(0.5)
    turns = 0
    async with asyncio.TaskGroup() as group:
        sweep = group.create_task(system.rehoming.sweep())
        while not sweep.done():
            turns += 1
            await asyncio.sleep(0)
    assert len(await system.events("participant.moved")) == THREAD_FROM
    assert turns > THREAD_FROM, "others go in between"


async def test_who_is_in_a_call_is_moved_to_a_region_that_was_declared_since() -> None:
    system = System()
    system.geo.places["203.0.113.9"] = Location(1.3, 103.8)
    await system.topologies.load("eu-frankfurt us-virginia")
    await system.serving("fra-1", "eu-frankfurt", capacity=400)
    await system.serving("vir-1", "us-virginia", capacity=400)
    for who in PARISIANS:
        join = a_join(who, "singapore", client_ip="203.0.113.9")
        system.arrive(await system.joins.join(join))
    await system.run(60)
    text = "eu-frankfurt us-virginia ap-singapore"
    planning = Planning(system.store, system.topologies, system.worlds, parse, system.clock)
    planned = (await planning.topology(text)).plan.moves
    assert {(one.participant, one.to_region) for one in planned} == {
        (who, "ap-singapore") for who in PARISIANS
    }
    await system.topologies.replace(text, expect_version=1)
    await system.run(5)
    assert await system.events("participant.moved") == [], "it has no node yet"
    await system.serving("sin-1", "ap-singapore", capacity=400)
    await system.run(1)
    moved = await system.events("participant.moved")
    assert [one.data["participant"] for one in moved] == list(PARISIANS)
    seat = (await system.joins.look(ROOM, ParticipantId("bob"))).assignment
    assert seat.rtts[RegionId("ap-singapore")].rtt_ms < seat.rtts[RegionId("eu-frankfurt")].rtt_ms


async def test_all_rooms_are_gone_through_once_after_a_new_topology() -> None:
    system = await europe()
    rooms = [RoomId(f"r{index:03}") for index in range(2 * ROOMS_PER_SWEEP + 10)]
    for room in rooms:
        for who in ("ana", "bob"):
            system.arrive(await system.joins.join(a_join(who, "frankfurt", room=room)))
    await system.run(2 * AGAIN_AFTER_S)
    before = system.looked_at.value
    await system.topologies.replace("eu-frankfurt eu-paris", expect_version=1)
    await system.run(AGAIN_AFTER_S)
    assert system.looked_at.value - before == len(rooms)


async def test_a_plan_that_was_made_for_another_topology_moves_nobody() -> None:
    system = await europe("rehomes_per_room=40")
    for index in range(THREAD_FROM):
        system.arrive(await system.join(f"p{index:02}", "virginia"))
    await system.serving("vir-1", "us-virginia", capacity=400)
    await system.run(QUIET_S - 0.5)
    system.clock.advance(0.5)
    async with asyncio.TaskGroup() as group:
        sweep = group.create_task(system.rehoming.sweep())
        await asyncio.sleep(0)
        await system.topologies.replace("eu-frankfurt eu-paris", expect_version=1)
        assert not sweep.done()
    assert await system.events("participant.moved") == []


async def test_many_rooms_are_looked_at_a_few_at_a_time() -> None:
    system = await europe()
    for index in range(ROOMS_PER_SWEEP + 10):
        for who in ("ana", "bob"):
            await system.joins.join(a_join(who, "frankfurt", room=RoomId(f"r{index}")))
    await sweep_when_quiet(system)
    assert system.looked_at.value == ROOMS_PER_SWEEP
    await system.rehoming.sweep()
    assert system.looked_at.value == ROOMS_PER_SWEEP + 10


async def test_a_pair_is_looked_at_again_when_nobody_else_came() -> None:
    system = await europe()
    await parisians_in_frankfurt(system, people=("bob", "cem"))
    await system.run(LOOKED_AT_S)
    assert await system.events("participant.moved") == [], "more may come"
    await system.run(30)
    assert len(await system.events("participant.moved")) == 2
