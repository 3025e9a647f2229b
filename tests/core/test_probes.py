from controlplane.core.model import Location, NodeState
from controlplane.core.place import NOWHERE, Place
from controlplane.core.probes import plan_probes
from tests.core.build import CITIES, node, one_node_each, with_node, world

MAINZ = Location(50.0, 8.27, 20)


def test_three_nearest_regions_with_a_serving_node() -> None:
    planned = plan_probes(Place(MAINZ, "geo"), one_node_each())
    assert [one.region for one in planned] == ["eu-frankfurt", "eu-paris", "us-virginia"]
    assert planned[0].why == "32 km away (geo)"


def test_regions_without_a_serving_node_are_left_out() -> None:
    view = with_node(
        one_node_each(), node("eu-frankfurt-1", "eu-frankfurt", state=NodeState.DRAINING)
    )
    planned = plan_probes(Place(MAINZ, "geo"), view)
    assert [one.region for one in planned] == ["eu-paris", "us-virginia", "ap-singapore"]
    assert plan_probes(Place(MAINZ, "geo"), world([])) == ()


def test_the_least_loaded_node_answers() -> None:
    view = world([node("fra-1", "eu-frankfurt", load=0.5), node("fra-2", "eu-frankfurt", load=0.1)])
    assert [one.node.id for one in plan_probes(NOWHERE, view)] == ["fra-2"]


def test_an_unknown_place_is_asked_to_look_around() -> None:
    planned = plan_probes(NOWHERE, one_node_each())
    assert {one.region for one in planned} == set(CITIES)
    assert "place unknown" in planned[0].why
    assert {planned[0].region, planned[1].region} != {"eu-frankfurt", "eu-paris"}


def test_a_vague_place_gets_its_nearest_and_some_far_ones() -> None:
    planned = plan_probes(Place(Location(50.0, 8.27, 1000), "geo"), one_node_each())
    assert [one.region for one in planned[:3]] == ["eu-frankfurt", "eu-paris", "us-virginia"]
    assert {one.region for one in planned} == set(CITIES)
    assert "within 1000 km only" in planned[3].why
