import asyncio

import pytest

from controlplane.core.model import Location, NodeId, ParticipantId, Role, RoomId, RttSource
from controlplane.core.turn import region_secret, turn_credential, turn_user
from controlplane.errors import (
    InvalidInputError,
    NotFoundError,
    ResidencyError,
    UnavailableError,
)
from controlplane.services.joins import LEASE_TO_FIRST_USE_S
from tests.services.system import ROOM, System, a_join, three_regions

ANA = ParticipantId("ana")


async def test_a_join_says_where_to_go_and_why() -> None:
    system = await three_regions()
    joined = await system.join("ana", "frankfurt")
    assert joined.created
    assert joined.assignment.epoch == 1
    assert joined.node.id == "fra-1"
    assert joined.node.whip_url == "http://fra-1.test/whip/standup/ana"
    assert joined.node.whep_url == "http://fra-1.test/whep/standup/ana"
    assert [one.id for one in joined.fallbacks] == ["vir-1", "sin-1"]
    assert joined.fallbacks[0].whip_url == "http://vir-1.test/whip/standup/ana"
    assert joined.assignment.decision.because[0] == "Frankfurt answers in 5 ms (probe)"
    assert joined.token_expires_at == int(system.clock.now()) + 60
    claims = system.signer.signed[-1]
    assert claims["aud"] == ["fra-1", "vir-1", "sin-1"]
    assert (claims["sub"], claims["room"], claims["epoch"]) == ("ana", "standup", 1)


async def test_a_repeated_join_gives_the_same_place_and_a_fresh_token() -> None:
    system = await three_regions()
    first = await system.join("ana", "frankfurt")
    system.clock.advance(10)
    again = await system.join("ana", "virginia")
    assert not again.created
    assert again.node == first.node
    assert again.assignment.epoch == 1
    assert again.assignment.expires_at == system.clock.now() + LEASE_TO_FIRST_USE_S
    assert again.token != first.token
    assert again.token_expires_at == first.token_expires_at + 10
    assert len(await system.events("participant.assigned")) == 1


async def test_a_refresh_brings_new_probes_and_without_probes_keeps_the_old() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    kept = await system.join("ana")
    assert kept.assignment.rtts[kept.node.region].rtt_ms == 5
    newer = await system.join("ana", "virginia")
    assert newer.assignment.rtts[newer.node.region].rtt_ms == 91
    assert newer.assignment.rtts[newer.node.region].source is RttSource.PROBE


async def test_another_session_takes_the_place_of_the_first() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    second = await system.join("ana", "virginia", "s2")
    assert second.created
    assert (second.assignment.epoch, second.node.id) == (2, "vir-1")
    assert [one.data["epoch"] for one in await system.events("participant.assigned")] == [1, 2]


async def test_another_role_or_requirement_is_another_assignment() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    viewer = await system.joins.join(a_join("ana", "frankfurt", role=Role.VIEWER))
    assert (viewer.assignment.role, viewer.assignment.epoch) == (Role.VIEWER, 2)
    american = await system.joins.join(
        a_join("ana", "frankfurt", role=Role.VIEWER, residency=["us"])
    )
    assert (american.node.id, american.assignment.epoch) == ("vir-1", 3)


async def test_a_repeated_join_that_excludes_its_node_is_placed_anew() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    moved = await system.joins.join(a_join("ana", "frankfurt", exclude=["fra-1"]))
    assert moved.created
    assert (moved.node.id, moved.assignment.epoch) == ("vir-1", 2)
    assert moved.assignment.decision.because[0] == "node fra-1 is excluded by the join"
    (event,) = await system.events("participant.moved")
    assert (event.data["from_node"], event.data["node"]) == ("fra-1", "vir-1")
    assert event.data["reason"] == "node fra-1 is excluded by the join"
    repeated = await system.joins.join(a_join("ana", "frankfurt", exclude=["fra-1"]))
    assert not repeated.created


async def test_everybody_gets_the_edge_that_serves_the_room() -> None:
    system = await three_regions()
    placed = {
        who: (await system.join(who, who)).node.id for who in ("frankfurt", "virginia", "singapore")
    }
    assert placed == {"frankfurt": "fra-1", "virginia": "vir-1", "singapore": "sin-1"}


async def test_geoip_places_those_who_did_not_measure() -> None:
    system = await three_regions()
    system.geo.places["203.0.113.9"] = Location(38.9, -77.0, 20)
    joined = await system.joins.join(a_join("ana", client_ip="203.0.113.9"))
    assert joined.node.id == "vir-1"
    decision = joined.assignment.decision
    assert (decision.location, decision.location_source) == (Location(38.9, -77.0, 20), "geo")
    assert "distance" in decision.because[0]


async def test_turn_servers_are_those_of_the_assigned_region() -> None:
    system = await three_regions(turn_secret=b"master")
    joined = await system.join("ana", "frankfurt")
    (server,) = joined.ice_servers
    assert server.urls[0] == "turn:turn.eu-frankfurt.test:3478?transport=udp"
    expected = turn_credential(
        region_secret(b"master", joined.node.region), turn_user(ROOM, ANA), now=system.clock.now()
    )
    assert (server.username, server.credential) == (expected.username, expected.credential)
    assert expected.credential not in repr(joined) + repr(expected), "logs show reprs"
    assert joined.token not in repr(joined)
    assert (await system.join("bob", "virginia")).ice_servers == (), "Virginia has none"


async def test_without_a_secret_no_turn_server_is_handed_out() -> None:
    system = await three_regions()
    assert (await system.join("ana", "frankfurt")).ice_servers == ()


async def test_residency_that_cannot_be_met_is_451_with_what_would_do() -> None:
    system = await three_regions()
    await system.fleet.drain(NodeId("fra-1"), deadline_s=60, reason="kernel")
    with pytest.raises(ResidencyError) as caught:
        await system.joins.join(a_join("ana", "frankfurt", residency=["eu"]))
    assert caught.value.code == "residency-unsatisfied"
    assert caught.value.extra == {"allowed_regions": ["eu-frankfurt"]}
    assert "fra-1: draining: draining: kernel" in caught.value.detail
    assert (await system.store.room(ROOM)).assignments == {}


async def test_no_nodes_and_no_capacity_are_503_with_when_to_come_again() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt")
    with pytest.raises(UnavailableError) as nobody:
        await system.join("ana")
    assert (nobody.value.code, nobody.value.retry_after_s) == ("no-nodes", 2)
    await system.serving("fra-1", "eu-frankfurt", capacity=1)
    await system.join("ana")
    with pytest.raises(UnavailableError) as full:
        await system.join("bob")
    assert full.value.code == "no-capacity"
    assert "fra-1: full: 100 % of its 1 places are taken" in full.value.detail
    assert await system.store.last_event_id() == 3, "topology, ready, ana; nothing of bob"


async def test_a_required_region_that_nobody_declared_is_the_callers_mistake() -> None:
    system = await three_regions()
    with pytest.raises(InvalidInputError) as caught:
        await system.joins.join(a_join("ana", regions=["mars"]))
    assert caught.value.code == "unknown-region"


async def test_leaving_gives_the_place_back_and_says_so() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    left = await system.joins.leave(ROOM, ANA)
    assert left.epoch == 1
    (event,) = await system.events("participant.ended")
    assert (event.data["participant"], event.data["reason"]) == ("ana", "left")
    with pytest.raises(NotFoundError) as caught:
        await system.joins.leave(ROOM, ANA)
    assert caught.value.code == "participant-not-found"
    assert (await system.fleet.node(NodeId("fra-1"))).placed == 0
    assert (await system.join("ana", "frankfurt")).assignment.epoch == 2


async def test_looking_changes_nothing() -> None:
    system = await three_regions()
    joined = await system.join("ana", "frankfurt")
    seat = await system.joins.look(ROOM, ANA)
    assert (seat.assignment, seat.node, seat.fallbacks) == (
        joined.assignment,
        joined.node,
        joined.fallbacks,
    )
    with pytest.raises(NotFoundError):
        await system.joins.look(ROOM, ParticipantId("bob"))


async def test_probe_plans_name_where_to_measure() -> None:
    system = await three_regions()
    system.geo.places["203.0.113.9"] = Location(50.0, 8.27, 20)
    plan = await system.joins.probe_plan("203.0.113.9")
    assert [one.region for one in plan.regions] == ["eu-frankfurt", "us-virginia", "ap-singapore"]
    assert plan.regions[0].url == "http://fra-1.test/probe"
    assert plan.regions[0].stun == "stun:192.0.2.1:10000"
    assert plan.regions[0].title == "Frankfurt"
    assert plan.location_source == "geo"
    for address in (None, "nonsense", "127.0.0.1"):
        unknown = await system.joins.probe_plan(address)
        assert (len(unknown.regions), unknown.location_source) == (3, "unknown")


async def test_a_burst_of_joins_spreads_over_nodes_that_have_not_reported_yet() -> None:
    """200 rooms in one second, none of which any load report can know (scalelite's issue 1048)."""
    system = System()
    await system.topologies.load("eu-frankfurt")
    for index in range(4):
        await system.serving(f"fra-{index}", "eu-frankfurt")
    await asyncio.gather(
        *(
            system.joins.join(a_join("ana", "frankfurt", room=RoomId(f"room-{i}")))
            for i in range(200)
        )
    )
    placed = [len(await system.store.assignments_on(NodeId(f"fra-{i}"))) for i in range(4)]
    assert placed == [50, 50, 50, 50]


async def test_many_callers_at_once_for_one_participant_agree() -> None:
    system = await three_regions()
    answers = await asyncio.gather(*(system.join("ana", "frankfurt") for _ in range(10)))
    assert {one.assignment.epoch for one in answers} == {1}
    assert sum(one.created for one in answers) == 1
