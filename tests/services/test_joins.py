import asyncio

import pytest

from controlplane.core.learned import RttSample
from controlplane.core.model import (
    Location,
    NodeId,
    ParticipantId,
    RegionId,
    Role,
    RoomId,
    RttSource,
)
from controlplane.core.place import Place
from controlplane.core.probes import plan_more, plan_probes
from controlplane.core.turn import signing_secret, turn_credential, turn_user
from controlplane.errors import (
    InvalidInputError,
    NotFoundError,
    ResidencyError,
    UnavailableError,
)
from controlplane.services.placements import FULL_S, RAMP_UP_S
from controlplane.services.proposals import LEASE_TO_FIRST_USE_S
from tests.core.build import CITIES
from tests.fakes.turn import SteadyTurn
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
    assert kept.assignment.rtts[kept.node.region].rtt_ms == pytest.approx(5, abs=1)
    newer = await system.join("ana", "virginia")
    assert newer.assignment.rtts[newer.node.region].rtt_ms == pytest.approx(91, abs=5)
    assert newer.assignment.rtts[newer.node.region].source is RttSource.PROBE


async def test_what_the_edge_measures_in_the_call_outweighs_new_probes() -> None:
    system = await three_regions()
    system.arrive(await system.joins.join(a_join("ana", "frankfurt", client_ip="203.0.113.9")))
    fra = system.nodes["fra-1"]
    fra.measured[ROOM, ANA] = 31.0
    await system.run(11)
    seat = (await system.joins.look(ROOM, ANA)).assignment
    assert (seat.rtts[fra.region].rtt_ms, seat.rtts[fra.region].source) == (31, RttSource.SESSION)
    assert (await system.store.sums(ROOM))[fra.id].publisher_us == 31_000
    again = await system.joins.join(a_join("ana", "virginia", client_ip="203.0.113.9"))
    assert again.assignment.rtts[fra.region] == seat.rtts[fra.region]
    assert again.assignment.rtts[RegionId("us-virginia")].rtt_ms == pytest.approx(4, abs=2)
    moved = await system.joins.join(a_join("ana", "virginia", client_ip="198.51.100.9"))
    assert moved.assignment.rtts[fra.region].source is not RttSource.SESSION, "another network"
    assert (moved.assignment.network, moved.created) == ("198.51.100.0/24", False)


async def test_a_call_teaches_the_next_client_of_its_network() -> None:
    system = await three_regions()
    joined = await system.joins.join(a_join("ana", "frankfurt", client_ip="203.0.113.9"))
    assert joined.assignment.network == "203.0.113.0/24"
    system.arrive(joined)
    system.nodes["fra-1"].measured[ROOM, ANA] = 31.0
    await system.run(11)
    neighbour = a_join("bob", client_ip="203.0.113.200", room=RoomId("other"))
    preview = await system.joins.preview(neighbour)
    bob = (await system.joins.join(neighbour)).assignment
    for known in (preview.estimates.rtts[bob.region], bob.rtts[bob.region]):
        assert known.source is RttSource.LEARNED
        assert known.rtt_ms == pytest.approx(31, abs=1)
    assert "learned" in bob.decision.because[0]
    stranger = a_join("cem", client_ip="192.0.2.1", room=RoomId("third"))
    found = (await system.joins.join(stranger)).assignment
    assert {one.source for one in found.rtts.values()} == {RttSource.UNKNOWN}


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
    system = await three_regions(turn=(keeper := SteadyTurn(b"master")))
    joined = await system.join("ana", "frankfurt")
    (server,) = joined.ice_servers
    assert server.urls[0] == "turn:turn.eu-frankfurt.test:3478?transport=udp"
    expected = turn_credential(
        signing_secret(keeper.masters(), joined.node.region, system.clock.now()),
        turn_user(ROOM, ANA),
        now=system.clock.now(),
    )
    assert (server.username, server.credential) == (expected.username, expected.credential)
    assert expected.credential not in repr(joined) + repr(expected), "logs show reprs"
    assert joined.token not in repr(joined)
    bob = await system.join("bob", "virginia")
    assert bob.ice_servers == (), "Virginia has none"
    by_region = {node.region: node.ice_servers for node in bob.fallbacks}
    (fallback,) = by_region[RegionId("eu-frankfurt")]
    assert fallback.urls == server.urls, "TURN relays within its region"
    assert by_region[RegionId("ap-singapore")] == ()


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
    assert "fra-1: draining: kernel" in caught.value.detail
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
    assert await system.store.last_event_id() == "3", "topology, ready, ana; nothing of bob"


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
    assert [one.region for one in plan.regions][:2] == ["eu-frankfurt", "us-virginia"]
    assert plan.regions[0].url == "http://fra-1.test/probe"
    assert plan.regions[0].stun == "stun:192.0.2.1:10000"
    assert plan.regions[0].title == "Frankfurt"
    assert plan.location_source == "geo"
    for address in (None, "nonsense", "127.0.0.1"):
        unknown = await system.joins.probe_plan(address)
        assert (len(unknown.regions), unknown.location_source) == (3, "unknown")


async def test_a_probe_plan_knows_the_room_and_what_the_network_taught() -> None:
    system = System()
    await system.topologies.load(" ".join(CITIES))
    for region in CITIES:
        await system.serving(region, region)
    for index in range(4):
        await system.join(f"p{index}", "singapore")
    now, here = system.clock.now(), Location(50.0, 8.27, 100)
    system.geo.places["203.0.113.9"] = here
    world, sums = await system.worlds.load(now=now), await system.store.sums(ROOM)
    planned = plan_probes(Place(here, "geo"), world, {}, sums, now=now)
    plan = await system.joins.probe_plan("203.0.113.9", ROOM)
    assert [one.region for one in plan.regions] == [one.region for one in planned.first]
    assert [one.region for one in plan.more] == [
        one.region for one in plan_more(planned, world, now=now)
    ]
    assert plan.more_above_ms == planned.more_above_ms
    first = plan.regions[0].region
    calls = [RttSample("203.0.113.0/24", first, 90.0, f"call-{n}") for n in range(5)]
    await system.store.learn(calls, now=now)
    later = await system.joins.probe_plan("203.0.113.9", ROOM)
    assert first not in [one.region for one in later.regions], "it is known"


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


async def test_a_place_is_kept_as_long_as_the_lease() -> None:
    """Whoever has not come after RAMP_UP_S is no load any more; their token may still be used."""
    system = System()
    await system.topologies.load("eu-frankfurt")
    for node in ("fra-1", "fra-2"):
        await system.serving(node, "eu-frankfurt", capacity=2)
    for who in ("ana", "bob", "cem", "dan"):
        await system.join(who, "frankfurt")
    await system.run(RAMP_UP_S + 1)
    assert (await system.fleet.node(NodeId("fra-1"))).placed == 0
    with pytest.raises(UnavailableError) as full:
        await system.join("eve", "frankfurt")
    assert full.value.code == "no-capacity"
    assert "100 % of its 2 places are taken" in full.value.detail
    await system.joins.leave(ROOM, ParticipantId("cem"))
    system.clock.advance(FULL_S + 1)
    assert (await system.join("eve", "frankfurt")).created


async def test_many_callers_at_once_for_one_participant_agree() -> None:
    system = await three_regions()
    answers = await asyncio.gather(*(system.join("ana", "frankfurt") for _ in range(10)))
    assert {one.assignment.epoch for one in answers} == {1}
    assert sum(one.created for one in answers) == 1


async def test_who_has_to_be_moved_goes_to_a_node_that_the_client_reaches_if_there_is_one() -> None:
    system = System()
    await system.topologies.load("eu-frankfurt eu-paris us-virginia")
    for node, region in (
        ("fra-1", "eu-frankfurt"),
        ("par-1", "eu-paris"),
        ("vir-1", "us-virginia"),
    ):
        await system.serving(node, region)
    assert (await system.join("ana", "paris")).node.id == "par-1"
    joined = await system.joins.join(a_join("ana", "paris", exclude=["par-1"]))
    assert joined.node.id == "fra-1"
    system.arrive(joined)
    await system.fleet.drain(NodeId("fra-1"), deadline_s=0, reason="kernel")
    await system.run(1)
    assert (await system.joins.look(ROOM, ParticipantId("ana"))).node.id == "vir-1"
    await system.fleet.drain(NodeId("vir-1"), deadline_s=0, reason="kernel")
    await system.run(1)
    assert (await system.joins.look(ROOM, ParticipantId("ana"))).node.id == "par-1"
