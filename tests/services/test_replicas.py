"""Two replicas over one state: any of them answers, one of them acts."""

from collections import Counter

import pytest

from controlplane.core.model import NodeId, NodeState, ParticipantId, RoomId
from controlplane.services.cascade import MOVE_GRACE_S
from tests.services.replicas import Replicas, two_replicas
from tests.services.system import ROOM, a_join

FRA, VIR, SIN, PAR = NodeId("fra-1"), NodeId("vir-1"), NodeId("sin-1"), NodeId("par-1")
ANA = ParticipantId("ana")


async def state(replicas: Replicas, node: NodeId, at: str = "a") -> NodeState:
    return (await replicas[at].fleet.node(node)).node.state


async def lost(replicas: Replicas) -> list[object]:
    return [one.data["node"] for one in await replicas["b"].events("node.lost")]


# --- who does what --------------------------------------------------------------------------------


async def test_every_room_is_the_duty_of_one_replica_and_of_another_when_that_dies() -> None:
    replicas = await two_replicas()
    rooms = [f"room-{index}" for index in range(400)]
    owners = [[id_ for id_ in "ab" if replicas[id_].duties.is_mine(room)] for room in rooms]
    assert all(len(one) == 1 for one in owners)
    assert 140 < Counter(one[0] for one in owners)["a"] < 260
    await replicas.kill("a")
    await replicas.run(0.25)
    assert all(replicas["b"].duties.is_mine(room) for room in rooms)


async def test_a_cascade_is_told_once_and_both_wake_their_nodes() -> None:
    replicas = await two_replicas()
    for index in range(20):
        room = RoomId(f"room-{index}")
        await replicas["a"].joins.join(a_join("ana", "frankfurt", room=room))
        await replicas["b"].joins.join(a_join("bo", "singapore", room=room))
    await replicas.run(0.25)
    changed = Counter(one.data["room"] for one in await replicas["a"].events("cascade.changed"))
    assert set(changed.values()) == {1}
    assert len(changed) == 20
    for id_, node, other in (("a", FRA, SIN), ("b", SIN, FRA)):
        assert {node, other} <= replicas[id_].wakes.take()
        links = (await replicas[id_].fleet.snapshot(node)).links
        assert {(one.from_node, one.to_node) for one in links} == {(node, other), (other, node)}
        assert len(links) == 40


async def test_who_is_on_the_way_counts_at_every_replica() -> None:
    replicas = await two_replicas()
    joined = await replicas["a"].join("ana", "singapore")
    assert (await replicas["b"].fleet.node(SIN)).placed == 1
    replicas["b"].arrive(joined)
    await replicas.run(0.5)
    assert (await replicas["a"].fleet.node(SIN)).placed == 0
    assert (await replicas["b"].fleet.node(SIN)).placed == 0
    await replicas["a"].join("bob", "singapore")
    await replicas["b"].joins.leave(ROOM, ParticipantId("bob"))
    assert (await replicas["a"].fleet.node(SIN)).placed == 0


async def test_a_changed_room_is_looked_at_by_its_owner_only() -> None:
    replicas = await two_replicas()
    for index in range(10):
        for who in ("ana", "bo"):
            room = RoomId(f"room-{index}")
            replicas["a"].arrive(
                await replicas["a"].joins.join(a_join(who, "frankfurt", room=room))
            )
    await replicas.run(8)
    looked_at = [replicas[id_].looked_at.value for id_ in "ab"]
    assert sum(looked_at) >= 10
    own = sum(replicas["a"].duties.is_mine(f"room-{index}") for index in range(10))
    assert looked_at[0] >= own > 0
    assert looked_at[1] >= 10 - own > 0


async def test_a_lease_that_is_over_is_ended_once() -> None:
    replicas = await two_replicas()
    for index in range(20):
        await replicas["a"].joins.join(a_join("ana", "frankfurt", room=RoomId(f"room-{index}")))
    await replicas.run(65)
    ended = await replicas["b"].events("participant.ended")
    assert len(ended) == 20


# --- whose silence counts -------------------------------------------------------------------------


async def test_the_replica_that_hears_a_node_says_when_it_is_lost() -> None:
    replicas = await two_replicas()
    replicas["a"].arrive(await replicas["b"].join("ana", "frankfurt"))
    await replicas.run(1)
    replicas["a"].nodes["fra-1"].alive = False
    await replicas.run(4)
    assert await lost(replicas) == ["fra-1"]
    [moved] = await replicas["b"].events("participant.moved")
    assert (moved.data["participant"], moved.data["from_node"]) == ("ana", "fra-1")


async def test_a_broken_session_is_no_death_when_the_node_goes_on_elsewhere() -> None:
    replicas = await two_replicas()
    joined = await replicas["a"].join("ana", "frankfurt")
    replicas["a"].arrive(joined)
    await replicas.run(1)
    old = replicas["a"].nodes["fra-1"]
    await replicas["a"].kill(old)
    await replicas.move("fra-1", "a", "b")
    await replicas.run(10)
    assert await state(replicas, FRA) is NodeState.SERVING
    assert await lost(replicas) == []
    assert await replicas["a"].events("participant.moved") == []
    assert [one.data["node"] for one in await replicas["a"].events("node.ready")].count(FRA) == 1
    assert (await replicas["a"].fleet.node(FRA)).node.replica == "b"


async def test_the_nodes_of_a_replica_that_died_are_heard_by_the_other() -> None:
    replicas = await two_replicas()
    replicas["a"].arrive(await replicas["b"].join("ana", "frankfurt"))
    await replicas.run(1)
    await replicas.kill("a")
    await replicas.run(1)
    for node in ("fra-1", "vir-1"):
        await replicas.move(node, "a", "b")
    await replicas.run(10)
    assert await lost(replicas) == []
    assert await replicas["b"].events("participant.moved") == []


async def test_nodes_that_died_with_their_replica_are_lost_after_a_silence_from_the_take_over() -> (
    None
):
    replicas = await two_replicas()
    replicas["a"].arrive(await replicas["b"].join("ana", "frankfurt"))
    await replicas.run(60)
    await replicas.kill("a")
    await replicas.run(3.25)
    assert await lost(replicas) == []
    await replicas.run(1)
    assert set(await lost(replicas)) == {"fra-1", "vir-1"}
    [moved] = await replicas["b"].events("participant.moved")
    assert moved.data["from_node"] == "fra-1"


async def test_an_old_session_that_wakes_up_does_not_take_the_node_back_for_long() -> None:
    replicas = await two_replicas()
    frozen = replicas["a"].nodes["fra-1"]
    await replicas.move("fra-1", "a", "b")
    assert (await replicas["a"].fleet.node(FRA)).node.replica == "b"
    await replicas["a"].report(frozen)  # from the buffer of a socket
    await replicas["a"].fleet.closed(frozen.session)
    await replicas.run(0.5)
    view = await replicas["a"].fleet.node(FRA)
    assert (view.node.replica, view.node.state) == ("b", NodeState.SERVING)
    await replicas.run(5)
    assert await lost(replicas) == []


async def test_a_node_that_was_given_up_gives_up_its_people_at_whatever_replica_it_returns() -> (
    None
):
    replicas = await two_replicas()
    replicas["a"].arrive(await replicas["b"].join("ana", "frankfurt"))
    await replicas.run(1)
    replicas["a"].nodes["fra-1"].alive = False
    await replicas.run(5)
    assert await lost(replicas) == ["fra-1"]
    await replicas.move("fra-1", "a", "b")
    await replicas.run(MOVE_GRACE_S + 1)
    [end] = (await replicas["b"].fleet.snapshot(FRA)).end_sessions
    assert (end.room, end.participant) == (ROOM, ANA)
    assert end.epoch < (await replicas["a"].joins.look(ROOM, ANA)).assignment.epoch
    assert await state(replicas, FRA) is NodeState.SERVING


# --- what any replica answers ---------------------------------------------------------------------


async def test_a_drain_may_be_asked_of_any_replica() -> None:
    replicas = await two_replicas()
    joined = await replicas["b"].join("ana", "frankfurt")
    replicas["a"].arrive(joined)
    await replicas.run(1)
    await replicas["b"].fleet.drain(FRA, deadline_s=5, reason="new kernel")
    await replicas.run(1)
    assert await state(replicas, FRA, "a") is NodeState.DRAINING
    assert (await replicas["a"].fleet.snapshot(FRA)).draining
    await replicas.move("fra-1", "a", "b")
    await replicas.run(1)
    assert await state(replicas, FRA, "a") is NodeState.DRAINING, "a drain outlives the session"
    await replicas.run(5)
    assert len(await replicas["a"].events("participant.moved")) == 1
    assert len(await replicas["a"].events("node.drained")) == 1
    view = await replicas["a"].fleet.undrain(FRA)
    await replicas.run(1)
    assert (view.drain, await state(replicas, FRA, "b")) == (None, NodeState.SERVING)


async def test_snapshots_name_the_replicas_that_live() -> None:
    replicas = await two_replicas()
    assert (await replicas["a"].fleet.snapshot(FRA)).control_planes == (
        "a.test:7443",
        "b.test:7443",
    )
    await replicas.kill("b")
    await replicas.run(0.25)
    assert (await replicas["a"].fleet.snapshot(FRA)).control_planes == ("a.test:7443",)


# --- frozen ---------------------------------------------------------------------------------------


async def test_a_replica_that_hears_nothing_of_many_nodes_moves_nobody() -> None:
    replicas = await two_replicas()
    for index in range(6):
        await replicas["a"].serving(f"fra-{index + 2}", "eu-frankfurt")
    for index in range(20):
        room = RoomId(f"room-{index}")
        replicas["a"].arrive(await replicas["a"].joins.join(a_join("ana", "frankfurt", room=room)))
    await replicas.run(2)
    for node in list(replicas["a"].nodes.values())[:4]:
        node.alive = False
    await replicas.run(60)
    [frozen] = await replicas["a"].events("fleet.frozen")
    assert frozen.data["why"] == "4 of 8 nodes fell silent at once"
    assert (replicas["a"].frozen.value, replicas["b"].frozen.value) == (1, 0)
    assert await lost(replicas) == []
    assert await replicas["a"].events("participant.moved") == []
    assert await replicas["a"].events("participant.ended") == []
    for node in replicas["a"].nodes.values():
        node.alive = True
    await replicas.run(2)
    assert len(await replicas["a"].events("fleet.thawed")) == 1
    assert replicas["a"].frozen.value == 0
    assert await replicas["a"].events("participant.moved") == []


async def test_when_many_come_back_those_that_do_not_are_lost() -> None:
    replicas = await two_replicas()
    for index in range(3):
        await replicas["a"].serving(f"fra-{index + 2}", "eu-frankfurt")
    for node in list(replicas["a"].nodes.values())[:3]:
        node.alive = False
    await replicas.run(10)
    assert await lost(replicas) == []
    for node in list(replicas["a"].nodes.values())[1:]:
        node.alive = True
    await replicas.run(2)
    assert await lost(replicas) == ["fra-1"]


async def test_while_the_state_is_out_of_reach_nobody_is_given_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    replicas = await two_replicas()
    replicas["a"].arrive(await replicas["a"].join("ana", "frankfurt"))
    await replicas.run(1)
    replicas.stores["a"].mode = "degraded"
    replicas["a"].nodes["fra-1"].alive = False
    await replicas.run(90)
    assert await lost(replicas) == []
    assert await replicas["a"].events("participant.ended") == []
    assert await state(replicas, FRA) is NodeState.SUSPECT, "takes nobody new"
    assert "FLEET FROZEN" in capsys.readouterr().out
    world = await replicas["a"].worlds.load(now=replicas.clock.now())
    assert world.nodes[SIN].heard_at == pytest.approx(replicas.clock.now(), abs=1.5)
    replicas.stores["a"].mode = "normal"
    await replicas.run(1)
    assert await lost(replicas) == ["fra-1"]


async def test_who_is_cut_off_does_not_take_the_nodes_of_others_for_silent() -> None:
    """A replica beside a Redis that is cut off hears no other one: the others are gone, as far as it can see."""
    replicas = await two_replicas()
    replicas.stores["a"].mode = "degraded"
    gone = replicas.together.alive.pop("b")
    del replicas.alive["b"]
    await replicas.run(60)
    assert await state(replicas, SIN) is NodeState.SERVING
    assert (await replicas["a"].join("ana", "singapore")).assignment.node == SIN
    replicas.stores["a"].mode = "normal"
    replicas.together.alive["b"] = gone
    replicas.alive["b"] = replicas["b"]
    await replicas.run(60)
    assert await lost(replicas) == []
