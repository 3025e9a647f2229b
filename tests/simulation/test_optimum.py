"""The optimum is one: compared with trying everything."""

import itertools
import random

import pytest

from controlplane.simulation.optimum import optimum

REGIONS = 5


def cost(
    seats: tuple[int, ...] | list[int],
    access: list[list[float | None]],
    links: list[list[float]],
    weight: float,
) -> float:
    """The definition, pair by pair."""
    own = [row[region] for row, region in zip(access, seats, strict=True)]
    reach = [1e6 if rtt is None else rtt for rtt in own]
    return sum(
        (reach[i] + reach[j]) / 2 * (1 + weight) + links[seats[i]][seats[j]]
        for i in range(len(seats))
        for j in range(i)
    )


def world(seed: int, people: int) -> tuple[list[list[float | None]], list[list[float]]]:
    """Places on a plane, with noise: round trips hold no triangle inequality."""
    dice = random.Random(seed)  # noqa: S311 - repeats itself
    sites = [(dice.uniform(0, 200), dice.uniform(0, 200)) for _ in range(REGIONS)]
    homes = [(dice.uniform(0, 200), dice.uniform(0, 200)) for _ in range(people)]

    def apart(a: tuple[float, float], b: tuple[float, float]) -> float:
        return (abs(a[0] - b[0]) + abs(a[1] - b[1])) * dice.uniform(0.7, 1.5)

    access: list[list[float | None]] = [[apart(home, site) for site in sites] for home in homes]
    links = [[1.0] * REGIONS for _ in range(REGIONS)]
    for a, b in itertools.combinations(range(REGIONS), 2):
        links[a][b] = links[b][a] = apart(sites[a], sites[b]) / 2 + 2
    return access, links


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("people", [2, 3, 4])
def test_hardly_ever_is_anything_better(people: int, weight: float) -> None:
    missed = 0
    for seed in range(50):
        access, links = world(seed, people)
        found = optimum(access, links, weight)
        best = min(
            cost(seats, access, links, weight)
            for seats in itertools.product(range(REGIONS), repeat=people)
        )
        over = cost(found, access, links, weight) / best - 1
        assert over < 0.05
        missed += over > 1e-6
    assert missed <= 1


def test_regions_of_which_nothing_is_known_are_not_taken() -> None:
    access: list[list[float | None]] = [[None, 50.0], [None, 40.0]]
    assert optimum(access, [[1.0, 2.0], [2.0, 1.0]], 0.3) == [1, 1]


def test_people_of_one_place_stay_together() -> None:
    access, links = world(3, 2)
    found = optimum([access[0]] * 40 + [access[1]] * 25, links, 0.3)
    assert len(set(found[:40])) == 1
    assert len(set(found[40:])) == 1


def test_a_hint_never_makes_it_worse() -> None:
    access, links = world(4, 4)
    plain = optimum(access, links, 0.3)
    hinted = optimum(access, links, 0.3, hints=[[0, 1, 2, 3]])
    assert cost(hinted, access, links, 0.3) <= cost(plain, access, links, 0.3) + 1e-9
