"""Bursts fill equal nodes evenly, though reports of their load come late: one virtual clock, decisions alone."""

from collections import Counter, deque
from dataclasses import replace

import pytest

from controlplane.core.allocate import allocate
from controlplane.core.load import reported_load
from controlplane.core.model import Decision, Node, NodeId, RoomId
from controlplane.core.sums import NOBODY, Sums, adding
from controlplane.core.world import World
from tests.core.build import NOW, join, node, rtts, seat, topology, world

NODES = 12
FAIR = 1.3
"""How far the fullest node may be above its share."""

OFFICE = rtts({"eu-frankfurt": 10.0})


class Fleet:
    """Equal nodes in one region that report now and then, and the control plane's own placements since."""

    def __init__(self, *, interval_s: float, together: bool, capacity: int = 400) -> None:
        names = [f"fra-{number:02}" for number in range(NODES)]
        self.people: Counter[NodeId] = Counter()
        self._nodes = {
            NodeId(name): node(name, "eu-frankfurt", capacity=capacity) for name in names
        }
        self._placed: Counter[NodeId] = Counter()
        self._interval_s = interval_s
        self._due = deque(
            (NOW + interval_s * (1.0 if together else (number + 1) / NODES), NodeId(name))
            for number, name in enumerate(names)
        )

    def world(self, now: float) -> World:
        """What the control plane knows."""
        while self._due[0][0] <= now:
            at, id_ = self._due.popleft()
            self._due.append((at + self._interval_s, id_))
            self._nodes[id_] = self._report(self._nodes[id_])
            self._placed[id_] = 0
        # Nodes are heard all the time; it is their load that is old.
        heard = [replace(one, heard_at=now) for one in self._nodes.values()]
        return world(heard, topology("eu-frankfurt"), placed=self._placed)

    def _report(self, one: Node) -> Node:
        people = self.people[one.id]
        load = reported_load(0.0, people, one.capacity)
        return replace(one, participants=people, load=load)

    def place(self, id_: NodeId) -> Node:
        self.people[id_] += 1
        self._placed[id_] += 1
        return self._nodes[id_]

    @property
    def over_fair(self) -> float:
        """People on the fullest node over the mean of all."""
        return max(self.people.values()) * NODES / self.people.total()


def fill(fleet: Fleet, *, joins: int, within_s: float, room_size: int = 1) -> list[int]:
    """Let people join at equal distances, one room after the other; return over how many nodes each room spread."""
    spread: list[int] = []
    others: Sums = NOBODY
    for number in range(joins):
        if number % room_size == 0:
            others = NOBODY
            spread.append(0)
        now = NOW + within_s * number / joins
        who = replace(join(f"p{number}"), room=RoomId(f"room-{number // room_size}"))
        decision = allocate(who, others, fleet.world(now), OFFICE, now=now)
        assert isinstance(decision, Decision)
        others = adding(others, seat(f"p{number}", fleet.place(decision.node)))
        spread[-1] = len(others)
    return spread


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("room_size", [1, 4])
def test_92_joins_in_31_seconds_do_not_pile_up_on_one_of_twelve_nodes(
    together: bool, room_size: int
) -> None:
    """What a Jitsi deployment saw: 58 of them went to one bridge."""
    fleet = Fleet(interval_s=10.0, together=together)
    fill(fleet, joins=92, within_s=31.0, room_size=room_size)
    assert fleet.people.total() == 92
    assert fleet.over_fair <= FAIR


@pytest.mark.parametrize("interval_s", [0.5, 10.0, 60.0])
def test_200_rooms_at_once_do_not_pile_up(interval_s: float) -> None:
    fleet = Fleet(interval_s=interval_s, together=True)
    fill(fleet, joins=200, within_s=1.0)
    assert fleet.over_fair <= FAIR


def test_200_rooms_of_four_at_once_do_not_pile_up_and_stay_together() -> None:
    fleet = Fleet(interval_s=10.0, together=True)
    spread = fill(fleet, joins=800, within_s=1.0, room_size=4)
    assert fleet.over_fair <= FAIR
    assert spread.count(1) > 0.9 * len(spread)


def test_small_nodes_fill_to_the_last_place_and_not_beyond() -> None:
    fleet = Fleet(interval_s=10.0, together=True, capacity=10)
    fill(fleet, joins=NODES * 10, within_s=5.0)
    assert set(fleet.people.values()) == {10}
    outcome = allocate(join("late"), NOBODY, fleet.world(NOW + 6), OFFICE, now=NOW + 6)
    assert not isinstance(outcome, Decision)


def test_nodes_that_began_unequal_become_equal() -> None:
    fleet = Fleet(interval_s=10.0, together=True)
    for number in range(3):
        fleet.people[NodeId(f"fra-{number:02}")] = 40
    fill(fleet, joins=1, within_s=1.0)
    fleet.world(NOW + 10)  # the first reports that tell
    fill(fleet, joins=360, within_s=9.0)
    assert fleet.over_fair <= 1.05
