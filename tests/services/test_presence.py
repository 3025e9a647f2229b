from controlplane.core.model import NodeId, ParticipantId, Role, RoomId
from controlplane.services.cascade import MOVE_GRACE_S
from controlplane.services.presence import LEASE_AFTER_REPORT_S
from controlplane.store.memory import MemoryStore
from tests.services.system import ROOM, System, a_join, three_regions

ANA = ParticipantId("ana")
FRA = NodeId("fra-1")


async def test_a_reported_session_keeps_its_lease() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(120)
    seat = await system.joins.look(ROOM, ANA)
    assert seat.assignment.live
    assert seat.assignment.epoch == 1


async def test_an_assignment_that_nobody_used_expires() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    await system.run(59)
    assert await system.events("participant.ended") == []
    await system.run(3)
    (ended,) = await system.events("participant.ended")
    assert ended.data["reason"] == "expired: fra-1 reports no session of this participant"


async def test_a_session_that_is_gone_keeps_its_place_for_a_while() -> None:
    system = await three_regions()
    joined = await system.join("ana", "frankfurt")
    system.arrive(joined)
    await system.run(60)
    fra = system.nodes["fra-1"]
    fra.here.clear()
    await system.run(LEASE_AFTER_REPORT_S - 2)
    seat = await system.joins.look(ROOM, ANA)
    assert not seat.assignment.live
    system.arrive(joined)
    await system.run(60)
    assert (await system.joins.look(ROOM, ANA)).assignment.live
    fra.here.clear()
    await system.run(LEASE_AFTER_REPORT_S + 2)
    assert len(await system.events("participant.ended")) == 1


async def test_a_session_of_somebody_who_left_is_to_end() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(1)
    await system.joins.leave(ROOM, ANA)
    await system.run(0.5)
    (end,) = (await system.fleet.snapshot(FRA)).end_sessions
    assert (end.participant, end.epoch, end.reason) == ("ana", 1, "left or expired")


async def test_a_client_that_used_its_fallback_is_followed() -> None:
    system = await three_regions()
    joined = await system.join("ana", "virginia")
    system.arrive(await system.join("bob", "singapore"))
    fallback = joined.fallbacks[0].id
    assert fallback == "fra-1"
    system.arrive(joined, at=fallback)
    await system.run(1)
    seat = await system.joins.look(ROOM, ANA)
    assert (seat.assignment.node, seat.assignment.epoch) == ("fra-1", 2)
    assert seat.assignment.live
    (moved,) = await system.events("participant.moved")
    assert moved.data["reason"] == "the client went to its fallback fra-1 instead of vir-1"
    snapshot = await system.fleet.snapshot(fallback)
    assert snapshot.end_sessions == ()
    assert {one.from_node for one in snapshot.links} == {"fra-1", "sin-1"}
    await system.run(90)
    assert len(await system.events("participant.moved")) == 1, "not back to where it cannot go"
    assert (await system.joins.look(ROOM, ANA)).assignment.live
    assert (await system.join("ana", "virginia")).node.id == "fra-1"


async def test_a_session_on_a_node_that_is_no_fallback_is_to_end() -> None:
    system = await three_regions()
    joined = await system.joins.join(a_join("ana", "frankfurt", regions=["eu-frankfurt"]))
    assert joined.fallbacks == ()
    system.arrive(joined, at="vir-1")
    await system.run(MOVE_GRACE_S + 0.5)
    (end,) = (await system.fleet.snapshot(NodeId("vir-1"))).end_sessions
    assert end.reason == "moved to fra-1"


async def test_an_old_session_ends_as_soon_as_the_new_one_is_live() -> None:
    system = await three_regions()
    joined = await system.joins.join(a_join("ana", "frankfurt", regions=["eu-frankfurt"]))
    system.arrive(joined, at="vir-1")
    await system.run(0.5)
    assert (await system.fleet.snapshot(NodeId("vir-1"))).end_sessions == ()
    system.arrive(joined)
    await system.run(1)
    assert len((await system.fleet.snapshot(NodeId("vir-1"))).end_sessions) == 1


async def test_a_control_plane_that_lost_its_memory_learns_from_the_nodes() -> None:
    before = await three_regions()
    for who in ("frankfurt", "virginia"):
        before.arrive(await before.join(who, who))
    after = System(store=MemoryStore(first=1000))
    await after.topologies.load("eu-frankfurt us-virginia")
    for name, old in before.nodes.items():
        if name != "sin-1":
            await after.connect(name, old.region)
            after.nodes[name].here = dict(old.here)
    await after.run(1)
    room = await after.rooms.view(ROOM)
    assert [(one.participant, one.node, one.live) for one in room.participants] == [
        ("frankfurt", "fra-1", True),
        ("virginia", "vir-1", True),
    ]
    assert len(room.links) == 2
    assert (await after.fleet.snapshot(FRA)).end_sessions == ()
    await after.run(60)
    assert await after.events("participant.ended") == []
    (first, _) = room.participants
    assert first.decision.because == ("was on fra-1 before this control plane knew of it",)
    assert first.decision.candidates[0].node == first.node
    again = await after.join("frankfurt", "frankfurt")
    assert again.assignment.epoch > 1000


async def test_a_control_plane_that_lost_its_memory_moves_nobody_of_whom_it_knows_nothing() -> None:
    before = await three_regions()
    for who in ("frankfurt", "virginia"):
        before.arrive(await before.join(who, who))
    after = System(store=MemoryStore(first=1000))
    await after.topologies.load("eu-frankfurt us-virginia ap-singapore")
    for name, old in before.nodes.items():
        await after.connect(name, old.region)
        after.nodes[name].here = dict(old.here)
    await after.run(60)
    assert await after.events("participant.moved") == []
    for name, old in before.nodes.items():
        after.nodes[name].measured = dict.fromkeys(old.here, 6.0)
    await after.run(60)
    assert await after.events("participant.moved") == []


async def test_of_two_sessions_in_one_report_the_newer_counts() -> None:
    system = await three_regions()
    first = await system.join("ana", "frankfurt")
    system.arrive(first)
    second = await system.join("ana", "frankfurt", "s2")
    assert second.node.id == first.node.id
    await system.run(0.5)
    assert (await system.fleet.snapshot(FRA)).end_sessions == (), "the node's to end"
    system.arrive(second)
    await system.run(0.5)
    assert (await system.joins.look(ROOM, ANA)).assignment.live


async def test_strangers_in_a_report_of_many_rooms_are_settled_one_by_one() -> None:
    system = await three_regions()
    fra = system.nodes["fra-1"]
    for index in range(50):
        fra.here[RoomId(f"room-{index}"), ANA] = 7
    await system.run(0.5)
    rooms = await system.rooms.page(limit=100)
    assert len(rooms.rooms) == 50
    assert all(room.nodes == (FRA,) for room in rooms.rooms)
    assert {
        one.role for room in rooms.rooms for one in (await system.rooms.view(room.id)).participants
    } == {Role.PUBLISHER}


async def test_no_more_strangers_are_taken_in_than_the_node_has_places() -> None:
    system = System(store=MemoryStore(first=1000))
    await system.topologies.load("eu-frankfurt")
    fra = await system.connect("fra-1", "eu-frankfurt", capacity=3)
    for round_ in range(5):
        fra.here = {(RoomId(f"room-{round_}-{index}"), ANA): 7 for index in range(10)}
        await system.report(fra)
    assert len((await system.rooms.page(limit=100)).rooms) == 3
    assert (await system.fleet.snapshot(FRA)).end_sessions == ()


async def test_epochs_go_on_above_those_that_nodes_know() -> None:
    system = System(store=MemoryStore(first=1000))
    await system.topologies.load("eu-frankfurt")
    fra = await system.serving("fra-1", "eu-frankfurt")
    fra.here[ROOM, ANA] = 5000
    await system.report(fra)
    assert (await system.join("ana", "frankfurt")).assignment.epoch > 5000
