"""Which regions a client is asked to measure."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.core.allocate import allocate
from controlplane.core.geo import great_circle_km
from controlplane.core.liveness import STALE_S
from controlplane.core.model import (
    Decision,
    Location,
    Node,
    NodeId,
    NodeState,
    Policy,
    RegionId,
    RttEstimate,
    RttSource,
)
from controlplane.core.place import NOWHERE, Place
from controlplane.core.probes import (
    EXTRA,
    SENTINELS,
    WIDENED,
    PlannedProbe,
    ProbePlan,
    plan_more,
    plan_probes,
)
from controlplane.core.rtt import NOTHING, Rtts, estimate
from controlplane.core.sums import NOBODY, Sums, adding
from controlplane.core.world import World
from tests.core.build import (
    CITIES,
    NOW,
    join,
    node,
    one_node_each,
    region,
    seat,
    shuffled,
    sums,
    turned,
    with_node,
    world,
)
from tests.core.truth import everything, internet, seated

MAINZ = Place(Location(50.0, 8.27, 20), "geo")
SINGAPORE, SYDNEY = region("ap-singapore"), region("ap-sydney")


def plan(place: Place, view: World, learned: Rtts = NOTHING, others: Sums = NOBODY) -> ProbePlan:
    return plan_probes(place, view, learned, others, now=NOW)


def named(probes: tuple[PlannedProbe, ...]) -> list[RegionId]:
    return [one.region for one in probes]


def taught(**by_region: float) -> dict[RegionId, RttEstimate]:
    """Round trips learned for certain."""
    return {
        region(id_.replace("_", "-")): RttEstimate(rtt, 1.0, RttSource.LEARNED, 60.0)
        for id_, rtt in by_region.items()
    }


def test_the_first_in_a_room_measures_the_nearest() -> None:
    planned = plan(MAINZ, one_node_each()).first
    assert named(planned) == ["eu-frankfurt", "eu-paris", "us-virginia"]
    assert planned[0].why == "32 km away (geo)"
    assert all(one.why for one in planned)


def test_a_client_that_is_slow_even_to_the_nearest_looks_elsewhere_by_itself() -> None:
    view = one_node_each()
    planned = plan(MAINZ, view)
    assert set(named(plan_more(planned, view, now=NOW))) == {"ap-singapore", "ap-sydney"}
    lonely = plan(Place(Location(0.0, -30.0, 20), "geo"), view)
    assert planned.more_above_ms is not None
    assert lonely.more_above_ms is not None
    assert 10 < planned.more_above_ms < 60
    assert lonely.more_above_ms > planned.more_above_ms


def test_who_joins_others_far_away_measures_the_region_of_the_room() -> None:
    view = one_node_each()
    others = sums(*(seat(f"p{i}", view.nodes[NodeId("ap-singapore-1")], 5) for i in range(9)))
    assert SINGAPORE not in named(plan(MAINZ, view).first)
    planned = plan(MAINZ, view, others=others).first
    assert SINGAPORE in named(planned)
    assert "for the room" in next(one.why for one in planned if one.region == SINGAPORE)
    assert "eu-frankfurt" in named(planned)


@pytest.mark.parametrize("seed", range(20))
def test_where_placement_would_put_the_client_without_a_probe_is_always_measured(seed: int) -> None:
    net = internet(seed, regions=12, clients=6)
    others = NOBODY
    for index, (client, one) in enumerate(zip(net.clients, seated(net, everything), strict=True)):
        guess = estimate({}, client.place, net.world.topology, net.world.region_rtt)
        decision = allocate(join(f"p{index}"), others, net.world, guess, now=NOW)
        assert isinstance(decision, Decision)
        assert decision.region in named(plan(client.place, net.world, NOTHING, others).first)
        others = adding(others, one)


def test_what_the_network_taught_well_is_not_measured_again() -> None:
    view = one_node_each()
    planned = plan(MAINZ, view, taught(eu_frankfurt=6.0, eu_paris=14.0))
    assert not {"eu-frankfurt", "eu-paris"} & set(named(planned.first))
    assert len(planned.first) <= Policy().probe_regions
    everywhere = taught(**{id_.replace("-", "_"): 50.0 for id_ in CITIES})
    assert plan(MAINZ, view, everywhere) == ProbePlan(())


def test_a_vague_lesson_is_measured_again() -> None:
    vague = {region("eu-frankfurt"): RttEstimate(6.0, 60.0, RttSource.LEARNED, 60.0)}
    assert "eu-frankfurt" in named(plan(MAINZ, one_node_each(), vague).first)


def test_a_lesson_tells_where_a_client_is_that_no_database_knows() -> None:
    planned = plan(NOWHERE, one_node_each(), taught(ap_sydney=4.0)).first
    assert SYDNEY not in named(planned)
    assert len(planned) < len(plan(NOWHERE, one_node_each()).first)


def test_regions_without_a_serving_node_are_left_out() -> None:
    view = with_node(
        one_node_each(), node("eu-frankfurt-1", "eu-frankfurt", state=NodeState.DRAINING)
    )
    assert named(plan(MAINZ, view).first) == ["eu-paris", "us-virginia", "ap-singapore"]
    assert plan(MAINZ, world([])) == ProbePlan(())
    assert plan(NOWHERE, world([])) == ProbePlan(())


def test_the_least_loaded_node_answers() -> None:
    nodes = [node("fra-1", "eu-frankfurt", load=0.5), node("fra-2", "eu-frankfurt", load=0.1)]
    assert [one.node.id for one in plan(NOWHERE, world(nodes)).first] == ["fra-2"]
    placed = world(nodes, placed={"fra-2": 60})
    assert [one.node.id for one in plan(NOWHERE, placed).first] == ["fra-1"]


def test_an_unknown_place_is_asked_to_look_around() -> None:
    view = one_node_each()
    planned = plan(NOWHERE, view)
    assert set(named(planned.first)) == set(CITIES)
    assert "place unknown" in planned.first[0].why
    assert {planned.first[0].region, planned.first[1].region} != {"eu-frankfurt", "eu-paris"}
    assert planned.more_above_ms is None
    assert plan_more(planned, view, now=NOW) == ()


def test_an_unknown_place_in_a_large_world_gets_seven_regions_far_from_one_another() -> None:
    view = internet(1, regions=20).world
    regions = named(plan(NOWHERE, view).first)
    assert len(regions) == len(set(regions)) == WIDENED
    matrix = view.region_rtt
    apart = min(matrix[a, b] for a in regions for b in regions if a != b)
    left = set(view.topology.regions) - set(regions)
    # No region that was left out is farther from all of those taken than they are from one another.
    assert all(min(matrix[one, taken] for taken in regions) <= apart for one in left)


nodes = st.builds(
    node,
    st.sampled_from([f"n{i}" for i in range(12)]),
    st.sampled_from([*sorted(CITIES), "mars"]),
    state=st.sampled_from(NodeState),
    load=st.floats(0, 1.3),
    heard_at=st.sampled_from([NOW, NOW - STALE_S, NOW - STALE_S - 1]),
)
lessons = st.dictionaries(
    st.sampled_from([*map(region, CITIES), region("mars")]),
    st.builds(RttEstimate, st.floats(0, 400), st.floats(0.1, 100), st.just(RttSource.LEARNED)),
)
places = st.just(NOWHERE) | st.builds(
    Place,
    st.builds(Location, st.floats(-90, 90), st.floats(-180, 180), st.none() | st.floats(0, 3000)),
    st.sampled_from(["geo", "override"]),
)


@given(
    st.lists(nodes, max_size=12, unique_by=lambda one: one.id),
    places,
    lessons,
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200)
def test_a_plan_names_few_regions_once_each_and_only_nodes_that_serve(
    fleet: list[Node], place: Place, learned: dict[RegionId, RttEstimate], count: int, dice: Random
) -> None:
    view = world(fleet)
    view = replace(view, topology=replace(view.topology, policy=Policy(probe_regions=count)))
    seats = [seat(f"p{i}", dice.choice(fleet)) for i in range(4 if fleet else 0)]
    planned = plan(place, view, learned, sums(*seats))
    most = count + EXTRA if seats else count
    assert len(planned.first) <= (max(most, WIDENED) if place.location is None else most)
    more = plan_more(planned, view, now=NOW)
    assert len(more) <= SENTINELS
    both = named(planned.first) + named(more)
    assert len(both) == len(set(both))
    for one in (*planned.first, *more):
        assert one.node == view.nodes[one.node.id]
        assert one.node.state is NodeState.SERVING
        assert NOW - one.node.heard_at <= STALE_S
        assert one.region == one.node.region
        assert one.region in view.topology.regions
        assert one.why
    assert planned == plan(
        place, shuffled(view, dice), turned(learned, dice), sums(*reversed(seats))
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_nearest_is_always_measured_and_the_first_of_a_room_measures_the_nearest_alone(
    seed: int,
) -> None:
    net = internet(seed, regions=12, clients=5)
    regions = net.world.topology.regions
    far = seat("bob", net.world.nodes[max(net.world.nodes)])
    for client in net.clients:
        here = client.place.location
        assert here is not None
        near = sorted(regions, key=lambda id_: great_circle_km(here, regions[id_].location))
        assert named(plan(client.place, net.world).first) == near[: Policy().probe_regions]
        joining = named(plan(client.place, net.world, NOTHING, sums(far)).first)
        assert joining[0] == near[0]
