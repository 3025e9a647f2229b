"""Virtual nodes: what is reported when, and what is counted in between."""

import pytest

from controlplane.core.load import corrected_load
from controlplane.core.model import NodeId, RegionId
from controlplane.simulation.fleet import Fleet, Spread
from tests.simulation.build import topology

ONE, TWO = NodeId("frankfurt-1"), NodeId("frankfurt-2")


def fleet(interval: float = 10.0, nodes: int = 2) -> Fleet:
    made = Fleet(topology("frankfurt", nodes=nodes, capacity=10), {}, report_interval_s=interval)
    made.advance(0.0)
    return made


def load(of: Fleet, node: NodeId) -> float:
    return corrected_load(of.world.nodes[node], of.world.placed.get(node, 0))


def test_nodes_are_those_that_the_topology_desires() -> None:
    made = fleet(nodes=3)
    assert sorted(made.world.nodes) == ["frankfurt-1", "frankfurt-2", "frankfurt-3"]
    assert all(node.capacity == 10 for node in made.world.nodes.values())


def test_own_placements_count_until_the_report_shows_them_and_never_twice() -> None:
    made = fleet()
    made.seat(ONE)
    assert (load(made, ONE), made.world.nodes[ONE].participants) == (0.1, 0)
    made.advance(9.9)
    assert made.world.nodes[ONE].participants == 0
    made.advance(10.0)
    assert (load(made, ONE), made.world.nodes[ONE].participants) == (0.1, 1)
    assert not made.world.placed


def test_who_leaves_after_a_report_is_seen_until_the_next() -> None:
    made = fleet()
    report = made.seat(ONE)
    made.advance(10.0)
    made.free(ONE, report)
    assert load(made, ONE) == 0.1
    made.advance(20.0)
    assert load(made, ONE) == 0.0


def test_who_leaves_before_a_report_is_forgotten_at_once() -> None:
    made = fleet()
    made.free(ONE, made.seat(ONE))
    assert load(made, ONE) == 0.0


def test_a_long_silence_is_one_report() -> None:
    made = fleet()
    made.seat(ONE)
    made.advance(1e6 + 3)
    assert made.report == 1
    made.advance(1e6 + 9.9)
    assert made.report == 1
    made.advance(1e6 + 10)
    assert made.report == 2


def test_without_an_interval_load_is_never_stale() -> None:
    made = fleet(interval=0.0)
    made.seat(ONE)
    made.advance(0.0)
    assert made.world.nodes[ONE].participants == 1


def test_the_spread_is_that_of_the_fullest_moment() -> None:
    made = fleet()
    reports = [made.seat(node) for node in (ONE, ONE, ONE, TWO)]
    made.free(TWO, reports[3])
    assert made.spreads() == {RegionId("frankfurt"): Spread(4, 2, 3)}
    assert made.spreads()[RegionId("frankfurt")].ratio == pytest.approx(1.5)
    for report in reports[:3]:
        made.free(ONE, report)
    assert made.spreads()[RegionId("frankfurt")].people == 4
