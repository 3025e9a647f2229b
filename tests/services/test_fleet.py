import math

import pytest

from controlplane.core.model import Node, NodeId, NodeState, ParticipantId, RegionId, TrackStatus
from controlplane.core.session import NodeReport, ParticipantReport, PeerRtt
from controlplane.errors import ConflictError, InvalidInputError, NotFoundError
from controlplane.services.cascade import MOVE_GRACE_S
from controlplane.services.fleet import NodeSession
from controlplane.services.judging import FORGET_LOST_S
from tests.services.system import ROOM, System, three_regions

FRA, VIR, SIN = NodeId("fra-1"), NodeId("vir-1"), NodeId("sin-1")
ANA = ParticipantId("ana")


async def node(system: System, id_: NodeId) -> Node:
    return (await system.fleet.node(id_)).node


async def state(system: System, id_: NodeId) -> NodeState:
    return (await node(system, id_)).state


# --- coming ---------------------------------------------------------------------------------------


async def test_a_node_serves_from_its_first_report_on() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt")
    fra = await system.connect("fra-1", "eu-frankfurt")
    assert await state(system, FRA) is NodeState.JOINING
    assert "first report" in (await node(system, FRA)).why
    await system.report(fra)
    assert await state(system, FRA) is NodeState.SERVING
    (ready,) = await system.events("node.ready")
    assert dict(ready.data) == {"node": "fra-1", "region": "eu-frankfurt", "why": ""}


async def test_a_node_takes_as_many_as_itself_and_its_region_allow() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt")
    await system.connect("small", "eu-frankfurt", capacity=3)
    await system.connect("huge", "eu-frankfurt", capacity=10**6)
    views = {view.node.id: view.node.capacity for view in await system.fleet.nodes()}
    assert views == {"huge": 400, "small": 3}


async def test_a_node_of_an_undeclared_region_is_refused() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt")
    with pytest.raises(InvalidInputError) as region:
        await system.connect("vir-1", "us-virginia")
    assert region.value.code == "unknown-region"
    with pytest.raises(InvalidInputError) as hello:
        await system.connect("fra-1", "eu-frankfurt", capacity=0)
    assert hello.value.code == "bad-hello"
    assert await system.fleet.nodes() == ()


async def test_a_second_session_replaces_the_first() -> None:
    system = await three_regions()
    first = system.nodes["fra-1"]
    await system.serving("fra-1", "eu-frankfurt")
    assert not system.fleet.is_current(first.session)
    with pytest.raises(ConflictError) as caught:
        await system.report(first)
    assert caught.value.code == "session-replaced"
    with pytest.raises(ConflictError):
        await system.fleet.snapshot_result(first.session, version=1, error="")
    await system.fleet.closed(first.session)
    assert await state(system, FRA) is NodeState.SERVING
    assert not system.fleet.is_current(NodeSession(NodeId("never"), 1))


async def test_a_report_updates_load_people_and_age() -> None:
    system = await three_regions()
    fra = system.nodes["fra-1"]
    people = (ParticipantReport(ROOM, ANA, 1, (TrackStatus("t1", "audio", "opus"),), slots=4),)
    system.arrive(await system.join("ana", "frankfurt"))
    assert (await system.fleet.node(FRA)).placed == 1
    system.clock.advance(1)
    await system.fleet.report(fra.session, NodeReport(9, 0.25, people))
    view = await system.fleet.node(FRA)
    assert (view.node.load, view.node.participants, view.heard_age_s) == (0.25, 1, 0)
    assert view.placed == 0
    seat = await system.joins.look(ROOM, ANA)
    assert seat.assignment.live
    assert seat.assignment.tracks == people[0].tracks


async def test_a_node_that_understates_its_load_counts_by_its_people() -> None:
    system = await three_regions()
    fra = system.nodes["fra-1"]
    capacity = (await system.fleet.node(FRA)).node.capacity
    crowd = tuple(
        ParticipantReport(ROOM, ParticipantId(f"p{n}"), 1, (), slots=4)
        for n in range(capacity // 2)
    )
    for said, counted in ((-1.0, 0.5), (0.0, 0.5), (0.75, 0.75)):
        await system.fleet.report(fra.session, NodeReport(9, said, crowd))
        assert (await system.fleet.node(FRA)).node.load == pytest.approx(counted, abs=0.01)


# --- going ----------------------------------------------------------------------------------------


async def test_a_killed_node_is_suspect_at_once_and_lost_soon_and_its_people_are_moved() -> None:
    system = await three_regions()
    for who in ("frankfurt", "virginia", "singapore"):
        system.arrive(await system.join(who, who))
    await system.run(1)
    await system.kill(system.nodes["fra-1"])
    assert await state(system, FRA) is NodeState.SUSPECT
    await system.run(1.25)
    assert await state(system, FRA) is NodeState.SUSPECT
    await system.run(0.5)
    assert await state(system, FRA) is NodeState.LOST
    (lost,) = await system.events("node.lost")
    assert lost.data["why"] == "session broken 1.5 s ago and not renewed"
    (moved,) = await system.events("participant.moved")
    assert (moved.data["participant"], moved.data["from_node"]) == ("frankfurt", "fra-1")
    assert (moved.data["node"], moved.data["epoch"]) == ("vir-1", 2)
    assert moved.data["reason"] == "node fra-1 lost: session broken 1.5 s ago and not renewed"
    again = await system.join("frankfurt", "frankfurt")
    assert not again.created
    assert (again.node.id, again.assignment.epoch) == ("vir-1", 2)


async def test_a_silent_node_is_suspect_and_then_lost() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(1)
    system.nodes["fra-1"].alive = False
    await system.run(1.75)
    assert await state(system, FRA) is NodeState.SERVING
    await system.run(0.25)
    assert await state(system, FRA) is NodeState.SUSPECT
    await system.run(1.5)
    assert await state(system, FRA) is NodeState.LOST
    assert (await system.events("participant.moved"))[0].data["node"] == "vir-1"


async def test_nobody_new_is_placed_on_a_suspect_node_but_who_is_there_stays() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.kill(system.nodes["fra-1"])
    assert (await system.join("bob", "frankfurt")).node.id == "vir-1"
    assert (await system.join("ana", "frankfurt")).node.id == "fra-1"


async def test_a_reconnect_in_time_moves_nobody() -> None:
    system = await three_regions()
    joined = await system.join("ana", "frankfurt")
    system.arrive(joined)
    await system.run(1)
    await system.kill(system.nodes["fra-1"])
    await system.run(1)
    await system.connect("fra-1", "eu-frankfurt")
    assert await state(system, FRA) is NodeState.JOINING
    system.arrive(joined)
    await system.run(3)
    assert await state(system, FRA) is NodeState.SERVING
    assert await system.events("participant.moved") == []
    assert await system.events("node.lost") == []


async def test_a_node_that_restarted_in_time_has_lost_its_people_all_the_same() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(1)
    await system.kill(system.nodes["fra-1"])
    await system.serving("fra-1", "eu-frankfurt")
    (moved,) = await system.events("participant.moved")
    assert (moved.data["from_node"], moved.data["node"], moved.data["epoch"]) == (
        "fra-1",
        "fra-1",
        2,
    )
    assert moved.data["reason"] == "node fra-1 lost: it was restarted without this session"


async def test_a_node_that_comes_back_is_told_which_sessions_to_end() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(1)
    fra = system.nodes["fra-1"]
    fra.alive = False
    await system.run(4)
    assert await state(system, FRA) is NodeState.LOST
    fra.alive = True
    await system.run(0.5)
    assert await state(system, FRA) is NodeState.SERVING
    assert (await system.fleet.snapshot(FRA)).end_sessions == ()  # ana is not live elsewhere yet
    await system.run(MOVE_GRACE_S)
    snapshot = await system.fleet.snapshot(FRA)
    (end,) = snapshot.end_sessions
    assert (end.room, end.participant, end.epoch, end.reason) == (ROOM, ANA, 1, "moved to vir-1")
    assert FRA in system.wakes.take()
    fra.here.clear()
    await system.run(0.5)
    assert (await system.fleet.snapshot(FRA)).end_sessions == ()


async def test_a_full_node_is_emptied_in_bounded_steps() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt us-virginia")
    await system.serving("fra-1", "eu-frankfurt", capacity=400)
    for index in range(3):
        await system.serving(f"vir-{index}", "us-virginia", capacity=400)
    for index in range(350):
        await system.join(f"p{index}", "frankfurt")
    await system.kill(system.nodes["fra-1"])
    await system.run(1.5)
    assert len(await system.store.assignments_on(FRA)) == 150
    await system.run(0.25)
    assert len(await system.store.assignments_on(FRA)) == 0
    assert len(await system.events("participant.moved")) == 350


async def test_a_process_that_slept_does_not_take_its_own_silence_for_the_nodes() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    await system.run(5)
    system.clock.advance(600)
    await system.judge.sweep()
    assert {view.node.state for view in await system.fleet.nodes()} == {NodeState.SERVING}
    await system.run(2)
    assert await system.events("node.lost") == []
    assert await system.events("participant.ended") == []
    for name in ("fra-1", "vir-1"):
        system.nodes[name].alive = False
    await system.run(4)
    assert len(await system.events("node.lost")) == 2


async def test_time_in_which_the_process_was_busy_is_nobodys_silence() -> None:
    system = await three_regions()
    await system.run(2)
    system.nodes["fra-1"].alive = False

    async def busy(seconds: int) -> None:
        for _ in range(seconds):
            system.clock.advance(1.0)
            for name in ("vir-1", "sin-1"):
                await system.report(system.nodes[name])
            await system.judge.sweep()

    await busy(6)
    assert await system.events("node.lost") == []
    await busy(4)
    (lost,) = await system.events("node.lost")
    assert lost.data["node"] == "fra-1"


async def test_a_node_that_is_lost_for_long_is_forgotten() -> None:
    system = await three_regions()
    await system.kill(system.nodes["fra-1"])
    await system.run(2)
    assert await state(system, FRA) is NodeState.LOST
    await system.run(FORGET_LOST_S)
    with pytest.raises(NotFoundError) as caught:
        await system.fleet.node(FRA)
    assert caught.value.code == "node-not-found"
    await system.serving("fra-1", "eu-frankfurt")
    assert await state(system, FRA) is NodeState.SERVING


# --- draining -------------------------------------------------------------------------------------


async def test_a_draining_node_keeps_its_people_until_the_deadline() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    view = await system.fleet.drain(FRA, deadline_s=10, reason="new kernel")
    assert (view.node.state, view.node.why) == (NodeState.DRAINING, "new kernel")
    assert (await system.fleet.snapshot(FRA)).draining
    assert (await system.join("bob", "frankfurt")).node.id == "vir-1"
    await system.run(9.5)
    assert await system.events("participant.moved") == []
    assert await state(system, FRA) is NodeState.DRAINING, "reports do not undo a drain"
    await system.run(1)
    (moved,) = await system.events("participant.moved")
    assert moved.data["reason"] == "node fra-1 drained: new kernel"
    await system.run(1)
    assert [one.data["node"] for one in await system.events("node.drained")] == ["fra-1"]
    assert len(await system.events("node.draining")) == 1


async def test_a_drain_outlives_a_reconnect_and_can_be_undone() -> None:
    system = await three_regions()
    await system.fleet.drain(FRA, deadline_s=60, reason="new kernel")
    await system.serving("fra-1", "eu-frankfurt")
    assert await state(system, FRA) is NodeState.DRAINING
    view = await system.fleet.undrain(FRA)
    assert view.node.state is NodeState.SERVING
    assert not (await system.fleet.snapshot(FRA)).draining
    assert (await system.fleet.undrain(FRA)).node.state is NodeState.SERVING
    await system.run(1)
    assert await state(system, FRA) is NodeState.SERVING


async def test_a_drain_past_its_deadline_keeps_those_whom_nobody_can_take() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt us-virginia")
    await system.serving("fra-1", "eu-frankfurt")
    system.arrive(await system.join("ana", "frankfurt"))
    await system.fleet.drain(FRA, deadline_s=0, reason="")
    await system.run(3)
    assert await system.events("participant.ended") == []
    await system.serving("vir-1", "us-virginia")
    await system.run(6)
    assert [one.data["node"] for one in await system.events("participant.moved")] == ["vir-1"]


async def test_a_drain_needs_a_sane_deadline_and_a_node_that_is_there() -> None:
    system = await three_regions()
    for deadline in (-1, math.nan, math.inf, 10**9):
        with pytest.raises(InvalidInputError):
            await system.fleet.drain(FRA, deadline_s=deadline, reason="")
    with pytest.raises(NotFoundError):
        await system.fleet.drain(NodeId("never"), deadline_s=1, reason="")
    await system.kill(system.nodes["fra-1"])
    await system.run(2)
    with pytest.raises(ConflictError) as caught:
        await system.fleet.drain(FRA, deadline_s=1, reason="")
    assert caught.value.code == "node-not-drainable"


# --- snapshots ------------------------------------------------------------------------------------


async def test_a_snapshot_is_complete_and_keeps_its_version_while_nothing_changes() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    await system.join("bob", "virginia")
    first = await system.fleet.snapshot(FRA)
    assert [(one.from_node, one.to_node) for one in first.links] == [(FRA, VIR), (VIR, FRA)]
    assert [(one.node, one.trunk_target) for one in first.peers] == [
        (SIN, "sin-1.test:7443"),
        (VIR, "vir-1.test:7443"),
    ]
    assert first.token_keys == {"k1": bytes(32)}
    assert first.report_interval_ms == 500
    assert await system.fleet.snapshot(FRA) == first
    await system.join("cem", "singapore")
    second = await system.fleet.snapshot(FRA)
    assert second.version == first.version + 1
    assert len(second.links) == 4
    with pytest.raises(NotFoundError):
        await system.fleet.snapshot(NodeId("never"))


async def test_versions_go_on_above_what_a_node_kept() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt")
    kept = int(system.clock.now() * 1000) + 5_000_000
    await system.connect("fra-1", "eu-frankfurt", kept=kept)
    first = await system.fleet.snapshot(FRA)
    assert first.version > kept
    await system.connect("fra-1", "eu-frankfurt", kept=0)
    assert (await system.fleet.snapshot(FRA)).version > first.version


async def test_a_refused_snapshot_changes_nothing() -> None:
    system = await three_regions()
    before = await system.fleet.snapshot(FRA)
    session = system.nodes["fra-1"].session
    await system.fleet.snapshot_result(session, version=before.version, error="links: loop")
    assert await system.fleet.snapshot(FRA) == before


async def test_nodes_measure_one_node_of_each_other_region_and_share_the_asking() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt us-virginia")
    for index in range(3):
        await system.serving(f"vir-{index}", "us-virginia")
    asked = set()
    for index in range(12):
        await system.serving(f"fra-{index}", "eu-frankfurt")
        (peer,) = (await system.fleet.snapshot(NodeId(f"fra-{index}"))).peers
        asked.add(peer.node)
    assert len(asked) == 3


async def test_measured_round_trips_replace_declared_ones() -> None:
    system = await three_regions()
    pair = (RegionId("eu-frankfurt"), RegionId("us-virginia"))
    world = await system.worlds.load(now=system.clock.now())
    assert world.region_rtt[pair] == 90
    system.nodes["fra-1"].rtts = (PeerRtt(VIR, pair[1], 84.0), PeerRtt(SIN, pair[0], math.nan))
    system.nodes["vir-1"].rtts = (PeerRtt(FRA, pair[0], 83.0),)
    await system.run(2)
    world = await system.worlds.load(now=system.clock.now())
    assert world.region_rtt[pair] == world.region_rtt[pair[1], pair[0]] == 83.0
