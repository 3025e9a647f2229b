"""How many places a replica gives away that does not reach Redis."""

from dataclasses import replace

import pytest

from controlplane.core.model import Assignment, Node, NodeId
from controlplane.store.redis.places import Places
from controlplane.store.view import View
from tests.core.build import node as a_node
from tests.store.build import NOW, proposal

MINE, YOURS = "a", "b"


class Deployment:
    """One replica's places of a node, and how many it gave away."""

    def __init__(self, *, capacity: int, heard_by: str, replicas: int = 2) -> None:
        self.view = View()
        node: Node = replace(a_node("fra-1", "eu-frankfurt"), capacity=capacity, replica=heard_by)
        nodes = {NodeId("fra-1"): node}
        self.places = Places(self.view, nodes, MINE, 1, replicas=lambda: replicas)
        self.given = 0

    def gives(self, wanted: Assignment) -> bool:
        spare = self.places.spare_alone(wanted, NOW)
        if spare is not None and spare < 0:
            return False
        self.places.gave_alone(0, wanted)
        self.view.put(wanted)
        return True

    def give_all(self) -> int:
        """Return how many of two hundred more get a place."""
        names = [f"p{self.given + index}" for index in range(200)]
        self.given += len(names)
        return sum(self.gives(proposal(name)) for name in names)


@pytest.mark.parametrize(
    ("heard_by", "replicas", "expected"),
    [
        (MINE, 2, 100),  # its reports tell of everybody there
        (YOURS, 2, 10),
        (YOURS, 3, 5),  # the two that do not hear it share the tenth
        ("", 2, 10),
        (YOURS, 1, 100),  # whoever heard it is no more
    ],
)
def test_without_redis_a_node_belongs_to_the_replica_that_hears_it(
    heard_by: str, replicas: int, expected: int
) -> None:
    assert Deployment(capacity=100, heard_by=heard_by, replicas=replicas).give_all() == expected


def test_of_a_small_node_one_place_may_be_given_away() -> None:
    assert Deployment(capacity=3, heard_by=YOURS).give_all() == 1


def test_what_is_known_to_be_taken_is_not_given_away_again() -> None:
    one = Deployment(capacity=100, heard_by=YOURS)
    for index in range(96):
        one.view.put(proposal(f"there-{index}"))
    assert one.give_all() == 4


def test_when_redis_is_back_what_was_given_away_is_known_to_all() -> None:
    one = Deployment(capacity=100, heard_by=YOURS)
    assert one.give_all() == 10
    assert one.give_all() == 0
    one.places.rejoined(0)
    assert one.give_all() == 10


def test_a_place_that_somebody_has_costs_none() -> None:
    one = Deployment(capacity=100, heard_by=YOURS)
    assert one.give_all() == 10
    assert one.gives(proposal("p0", session="s2"))
    assert not one.gives(proposal("new"))
