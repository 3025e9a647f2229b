"""Knowing more never makes the expected result worse, beyond noise: over many small Internets whose truth is known."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev

import pytest

from controlplane.core.rehome import improve
from controlplane.core.sums import NOBODY
from tests.core.build import NOW, room
from tests.core.rooms import after
from tests.core.truth import Internet, Knowing, everything, internet, probing, seated, true_cost

ROOMS = 300
SOME_MS_IN_A_THOUSAND = 0.005
"""Part of the mean cost that counts as nothing: joins are decided one after the other, so luck plays a part."""

Costs = Sequence[float]


@pytest.fixture(scope="module")
def worlds() -> list[Internet]:
    return [internet(seed) for seed in range(ROOMS)]


def costs(worlds: Sequence[Internet], knowing: Knowing) -> Costs:
    """The true cost of each room, in milliseconds."""
    return [true_cost(net, seated(net, knowing)) for net in worlds]


def errors(worlds: Sequence[Internet], knowing: Knowing) -> Costs:
    """The mean error of each world's estimates, in milliseconds."""
    return [
        fmean(
            abs(rtt.rtt_ms - client.rtts[id_])
            for client in net.clients
            for id_, rtt in knowing(client, net.world, NOBODY).rtts.items()
        )
        for net in worlds
    ]


def assert_no_worse(more: Costs, less: Costs) -> None:
    """The mean may be higher by less than what chance does to it (two standard errors)."""
    apart = [a - b for a, b in zip(more, less, strict=True)]
    noise = 2 * stdev(apart) / sqrt(len(apart))
    assert fmean(apart) <= max(noise, SOME_MS_IN_A_THOUSAND * fmean(less))


def test_another_probe_never_makes_rooms_worse_and_three_are_much_better_than_none(
    worlds: Sequence[Internet],
) -> None:
    by_probes = [costs(worlds, probing(count)) for count in range(6)]
    for less, more in pairwise(by_probes):
        assert_no_worse(more, less)
    assert fmean(by_probes[3]) < fmean(by_probes[0])
    truth = costs(worlds, everything)
    assert_no_worse(truth, by_probes[3])
    # And three are nearly all there is to gain.
    assert fmean(by_probes[3]) < 1.02 * fmean(truth)


def test_another_probe_never_makes_estimates_worse(worlds: Sequence[Internet]) -> None:
    by_probes = [errors(worlds, probing(count)) for count in (0, 2, 4, 9)]
    for less, more in pairwise(by_probes):
        assert_no_worse(more, less)
    assert fmean(by_probes[-1]) < 0.1 * fmean(by_probes[0])


@pytest.mark.parametrize("count", [0, 2])
def test_what_the_network_taught_never_makes_it_worse(
    worlds: Sequence[Internet], count: int
) -> None:
    untaught, taught = probing(count), probing(count, taught=True)
    assert_no_worse(costs(worlds, taught), costs(worlds, untaught))
    assert_no_worse(errors(worlds, taught), errors(worlds, untaught))


@pytest.mark.parametrize("count", [0, 3])
def test_knowing_the_place_never_makes_it_worse(worlds: Sequence[Internet], count: int) -> None:
    nowhere, located = probing(count, located=False), probing(count)
    assert_no_worse(costs(worlds, located), costs(worlds, nowhere))
    assert_no_worse(errors(worlds, located), errors(worlds, nowhere))


@pytest.mark.parametrize("count", [1, 3])
def test_moves_by_what_is_believed_make_rooms_better_in_truth(
    worlds: Sequence[Internet], count: int
) -> None:
    before, then, moves = [], [], 0
    for net in worlds:
        people = seated(net, probing(count))
        of = room(*(replace(one, assigned_at=NOW - 3600) for one in people))
        step = improve(of, net.world, now=NOW, budget=100)
        moves += len(step)
        before.append(true_cost(net, people))
        then.append(true_cost(net, list(after(of, step).assignments.values())))
    assert moves > 0
    assert_no_worse(then, before)
    assert fmean(then) < fmean(before)
