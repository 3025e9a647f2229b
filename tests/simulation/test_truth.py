"""Scores of rooms, compared with sums by hand; and the baselines in a world that one can see through."""

import pytest

from controlplane.core.mesh import Pair, region_matrix
from controlplane.core.model import Location, RegionId
from controlplane.simulation.baselines import (
    BASELINES,
    FIRST,
    NEAREST,
    OPTIMUM,
    PURE,
    SINGLE,
    Baselines,
)
from controlplane.simulation.replay import Guest, RoomRecord
from controlplane.simulation.truth import MAX_SCORED, Case, Figures, Seat, Tally, cases_of
from tests.simulation.build import PEOPLE, client_rtts, join, region_rtts, rtt_ms, topology

A, B = RegionId("a"), RegionId("b")
MATRIX: dict[Pair, float] = {(A, B): 100.0, (B, A): 100.0, (A, A): 1.0, (B, B): 1.0}


def case(rtts: list[dict[RegionId, float]], seats: list[Seat], people: int | None = None) -> Case:
    nowhere = (None,) * len(rtts)
    return Case(tuple(rtts), nowhere, tuple(seats), None, people or len(rtts), 0, "r")


def scored(one: Case) -> Figures:
    tally = Tally()
    tally.add(one, one.seats, MATRIX)
    figures = tally.figures()
    assert figures is not None
    return figures


def test_delay_is_half_of_all_round_trips_and_a_millisecond_for_each_sfu() -> None:
    people = [{A: 10.0}, {A: 30.0}, {B: 250.0}]
    figures = scored(case(people, [(A, "a-1"), (A, "a-1"), (B, "b-1")]))
    together, first, second = 20 + 1, (10 + 100 + 250) / 2 + 2, (30 + 100 + 250) / 2 + 2
    assert figures.mean_ms == pytest.approx((together + first + second) / 3)
    assert figures.room_mean_ms == figures.mean_ms
    assert figures.over_150 == pytest.approx(2 / 3)
    assert figures.p95_ms == pytest.approx(second, abs=0.25)
    assert figures.edge_mean_ms == pytest.approx(290 / 3)
    assert figures.edges_over_100 == pytest.approx(1 / 3)
    assert (figures.rooms, figures.pairs, figures.sfus_per_room) == (1, 3, 2)


def test_two_nodes_of_one_region_are_two_sfus() -> None:
    figures = scored(case([{A: 10.0}, {A: 10.0}], [(A, "a-1"), (A, "a-2")]))
    assert figures.mean_ms == pytest.approx(10 + 0.5 + 2)


def test_pairs_of_a_large_room_weigh_what_the_room_has() -> None:
    figures = scored(case([{A: 10.0}, {A: 30.0}], [(A, "a-1")] * 2, people=1000))
    assert figures.pairs == pytest.approx(1000 * 999 / 2)
    assert figures.mean_ms == pytest.approx(21)
    assert figures.edge_mean_ms == pytest.approx(20)


def test_rooms_of_one_and_people_of_whom_nothing_is_known_are_left_out() -> None:
    def guest(client: str, region: str = "frankfurt") -> Guest:
        return Guest(client, None, RegionId(region), f"{region}-1")  # type: ignore[arg-type]

    first = join(0, "r", "ana", "berlin")
    records = [
        RoomRecord(first, (guest("berlin"),), 0),
        RoomRecord(first, (guest("berlin"), guest("stranger")), 0),
        RoomRecord(first, (guest("berlin"), guest("stranger"), guest("paris")), 2),
        RoomRecord(first, (guest("berlin"),) * (MAX_SCORED + 20), 0),
    ]
    cases = cases_of(records, client_rtts(), seed=1)
    assert (cases.alone, cases.unknown, len(cases.rooms)) == (1, 1, 2)
    assert (len(cases.rooms[0].rows), cases.rooms[0].people, cases.rooms[0].moves) == (2, 3, 2)
    assert (len(cases.rooms[1].rows), cases.rooms[1].people) == (MAX_SCORED, MAX_SCORED + 20)


def europe_and_asia(first: Location | None = PEOPLE["paris"]) -> tuple[Baselines, Case]:
    names = ["paris", "berlin", "london", "tokyo"]
    known = client_rtts()
    declared = topology()
    one = Case(
        rows=tuple(known[name] for name in names),
        locations=tuple(PEOPLE[name] for name in names),
        seats=((RegionId("frankfurt"), "frankfurt-1"),) * 4,
        first=first,
        people=4,
        moves=0,
        room="r",
    )
    return Baselines(declared, region_matrix(declared, region_rtts())), one


def test_baselines_put_people_where_their_names_say() -> None:
    baselines, one = europe_and_asia()
    assert {region for region, _ in baselines.seats(FIRST, one)} == {"frankfurt"}
    assert {region for region, _ in baselines.seats(SINGLE, one)} == {"frankfurt"}
    nearest = [region for region, _ in baselines.seats(NEAREST, one)]
    assert nearest == ["frankfurt", "frankfurt", "frankfurt", "singapore"]
    assert rtt_ms(PEOPLE["tokyo"], PEOPLE["mumbai"]) > 0


def test_the_optimum_of_delay_is_the_smallest_delay_and_the_weighted_one_has_nearer_edges() -> None:
    baselines, one = europe_and_asia()
    matrix = region_matrix(topology(), region_rtts())
    found: dict[str, Figures] = {}
    for way in BASELINES:
        tally = Tally()
        tally.add(one, baselines.seats(way, one), matrix)
        figures = tally.figures()
        assert figures is not None
        found[way] = figures
    assert found[PURE].mean_ms == min(figures.mean_ms for figures in found.values())
    assert found[OPTIMUM].edge_mean_ms <= found[PURE].edge_mean_ms


def test_an_unknown_first_place_means_the_first_region_of_the_topology() -> None:
    baselines, one = europe_and_asia(first=None)
    assert {region for region, _ in baselines.seats(FIRST, one)} == {next(iter(topology().regions))}


def test_regions_to_which_nobody_has_a_round_trip_are_no_baseline() -> None:
    baselines, one = europe_and_asia()
    rows = tuple({RegionId("sydney"): 300.0} for _ in one.rows)
    blind = Case(rows, one.locations, ((RegionId("sydney"), "sydney-1"),) * 4, one.first, 4, 0, "r")
    for way in BASELINES:
        assert {region for region, _ in baselines.seats(way, blind)} == {"sydney"}
