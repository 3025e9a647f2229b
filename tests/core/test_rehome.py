"""Who is moved for a better place, and who is left alone."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from controlplane.core.model import (
    Assignment,
    Node,
    NodeId,
    NodeState,
    ParticipantId,
    Policy,
    RegionId,
    Requirements,
    Role,
    Room,
    RttEstimate,
    RttSource,
)
from controlplane.core.place import NOWHERE
from controlplane.core.rehome import PEOPLE_MAX, Rehome, improve
from controlplane.core.rtt import estimate
from controlplane.core.world import World
from tests.core.build import (
    NOW,
    node,
    one_node_each,
    region,
    room,
    rtts,
    seat,
    topology,
    with_node,
    world,
)
from tests.core.rooms import SETTLED

VIEW = one_node_each()
FRANKFURT, PARIS, VIRGINIA, SINGAPORE, SYDNEY = map(
    region, ["eu-frankfurt", "eu-paris", "us-virginia", "ap-singapore", "ap-sydney"]
)
NEAR: Mapping[RegionId, Mapping[str, float]] = {
    FRANKFURT: {FRANKFURT: 6.0, PARIS: 15.0, VIRGINIA: 95.0, SINGAPORE: 165.0, SYDNEY: 260.0},
    VIRGINIA: {FRANKFURT: 95.0, PARIS: 88.0, VIRGINIA: 6.0, SINGAPORE: 225.0, SYDNEY: 210.0},
    SINGAPORE: {FRANKFURT: 165.0, PARIS: 170.0, VIRGINIA: 225.0, SINGAPORE: 6.0, SYDNEY: 97.0},
}


def someone(
    who: str, on: RegionId, at: RegionId = FRANKFURT, *, role: Role = Role.PUBLISHER
) -> Assignment:
    """Who lives near one region and has long sat in another."""
    seated = seat(who, node(f"{on}-1", on), role=role, known=rtts(NEAR[at]))
    return replace(seated, assigned_at=SETTLED)


def moves(of: Room, view: World = VIEW, *, budget: int = 100, now: float = NOW) -> dict[str, str]:
    return {one.participant: one.to_node for one in step(of, view, budget=budget, now=now)}


def step(
    of: Room, view: World = VIEW, *, budget: int = 100, now: float = NOW
) -> tuple[Rehome, ...]:
    heard = {
        id_: replace(one, heard_at=one.heard_at + now - NOW) for id_, one in view.nodes.items()
    }
    return improve(of, replace(view, nodes=heard), now=now, budget=budget)


def under(policy: Policy) -> World:
    return one_node_each(topology(policy=policy))


ASTRAY = room(someone("ana", VIRGINIA), someone("bob", FRANKFURT), someone("cem", FRANKFURT))
"""One of three sits across the ocean from where it lives."""

SCATTERED = room(*(someone(f"p{i}", VIRGINIA) for i in range(8)))
"""Eight who live in Europe and sit in America."""


def test_who_sits_far_from_home_and_from_the_others_is_moved() -> None:
    (one,) = step(ASTRAY)
    assert (one.participant, one.from_node) == ("ana", "us-virginia-1")
    assert (one.to_node, one.to_region) == ("eu-frankfurt-1", FRANKFURT)
    assert one.because == f"the room's mean falls by {one.gain_ms:.0f} ms"


def test_a_room_that_sits_well_is_left_alone() -> None:
    assert moves(room(*(someone(f"p{i}", FRANKFURT) for i in range(5)))) == {}
    world_wide = room(*(someone(f"p{i}", at, at) for i, at in enumerate(NEAR)))
    assert moves(world_wide) == {}


def test_a_room_is_moved_together_where_no_single_move_would_pay() -> None:
    assert set(moves(SCATTERED, under(Policy(rehomes_per_room=8))).values()) == {"eu-frankfurt-1"}


def test_nobody_is_moved_for_less_than_the_gain_that_the_policy_wants() -> None:
    (one,) = step(ASTRAY)
    assert moves(ASTRAY, under(Policy(rehome_gain_ms=one.gain_ms - 0.01))) == {"ana": one.to_node}
    assert moves(ASTRAY, under(Policy(rehome_gain_ms=one.gain_ms + 0.01))) == {}


def test_nobody_alone_and_no_audience_without_a_publisher_is_moved() -> None:
    assert moves(room()) == {}
    assert moves(room(someone("ana", VIRGINIA))) == {}
    audience = [someone(f"v{i}", VIRGINIA, role=Role.VIEWER) for i in range(3)]
    assert moves(room(*audience)) == {}
    assert len(moves(room(*audience, someone("ana", FRANKFURT)))) == 3


def test_nobody_is_moved_twice_within_a_minute() -> None:
    ana = ASTRAY.assignments[ParticipantId("ana")]
    for ago, expected in ((0.0, 0), (59.9, 0), (60.0, 1), (3600.0, 1)):
        just_moved = replace(ana, moved_at=NOW - ago)
        people = {**ASTRAY.assignments, ana.participant: just_moved}
        assert len(moves(Room(ASTRAY.id, people))) == expected


def test_a_room_has_so_many_moves_a_minute_and_no_more() -> None:
    view = under(Policy(rehomes_per_room=3))
    first = step(SCATTERED, view)
    assert len(first) == 3
    moved = {
        one.participant: replace(
            SCATTERED.assignments[one.participant],
            node=one.to_node,
            region=one.to_region,
            moved_at=NOW,
        )
        for one in first
    }
    then = Room(SCATTERED.id, {**SCATTERED.assignments, **moved})
    assert moves(then, view, now=NOW + 30) == {}
    later = moves(then, view, now=NOW + 61)
    assert 0 < len(later) <= 3
    assert not later.keys() & moved.keys()


@pytest.mark.parametrize("budget", [-1, 0, 1, 2, 5])
def test_what_is_left_to_the_fleet_is_kept(budget: int) -> None:
    found = moves(SCATTERED, under(Policy(rehomes_per_room=100, rehome_gain_ms=0.5)), budget=budget)
    assert len(found) == max(0, budget)


def test_large_rooms_are_left_alone() -> None:
    view = under(Policy(rehomes_per_room=1000))
    people = [someone(f"p{i:03}", VIRGINIA) for i in range(PEOPLE_MAX + 1)]
    assert moves(room(*people[:-1]), view) != {}
    assert moves(room(*people), view) == {}


def test_a_room_of_two_that_is_still_filling_is_only_moved_for_much() -> None:
    near: dict[str, float] = {
        FRANKFURT: 20.0,
        PARIS: 6.0,
        VIRGINIA: 95.0,
        SINGAPORE: 165.0,
        SYDNEY: 260.0,
    }
    pair = [
        replace(seat(who, VIEW.nodes[NodeId("eu-frankfurt-1")], known=rtts(near)), assigned_at=at)
        for who, at in (("ana", SETTLED), ("bob", NOW - 5))
    ]
    assert moves(room(*pair)) == {}
    assert moves(room(*pair), now=NOW + 3600) == {"ana": "eu-paris-1", "bob": "eu-paris-1"}


# --- where nobody may go --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "require",
    [
        Requirements(residency=frozenset({"us"})),
        Requirements(regions=frozenset({VIRGINIA, SYDNEY})),
    ],
)
def test_requirements_of_the_join_hold_for_moves_too(require: Requirements) -> None:
    ana = replace(ASTRAY.assignments[ParticipantId("ana")], require=require)
    assert "ana" not in moves(Room(ASTRAY.id, {**ASTRAY.assignments, ana.participant: ana}))


@pytest.mark.parametrize(
    "closed",
    [
        node("eu-frankfurt-1", "eu-frankfurt", state=NodeState.DRAINING),
        node("eu-frankfurt-1", "eu-frankfurt", state=NodeState.SUSPECT),
        node("eu-frankfurt-1", "eu-frankfurt", load=1.0),
        node("eu-frankfurt-1", "eu-frankfurt", heard_at=NOW - 60),
    ],
)
def test_nobody_is_moved_to_a_node_that_takes_nobody(closed: Node) -> None:
    assert "eu-frankfurt-1" not in moves(ASTRAY, with_node(VIEW, closed)).values()


def test_a_region_that_is_no_longer_declared_is_left_but_not_entered() -> None:
    declared = topology("eu-paris", "us-virginia")
    view = replace(VIEW, topology=declared)
    assert "eu-frankfurt-1" not in moves(ASTRAY, view).values()


def test_of_a_regions_nodes_the_one_that_carries_the_room_is_chosen_while_it_has_headroom() -> None:
    empty = node("fra-a", FRANKFURT)
    carrying = node("fra-b", FRANKFURT, load=0.5)
    people = [replace(someone(f"p{i}", FRANKFURT), node=carrying.id) for i in range(3)]
    of = room(someone("ana", VIRGINIA), *people)
    vir = node("us-virginia-1", VIRGINIA)
    assert moves(of, world([empty, carrying, vir])) == {"ana": "fra-b"}
    crowded = world([empty, replace(carrying, load=0.95), vir])
    assert moves(of, crowded) == {"ana": "fra-a"}


# --- one odd measurement --------------------------------------------------------------------------


def claiming(one: Assignment, where: RegionId, rtt_ms: float, spread_ms: float) -> Assignment:
    odd = RttEstimate(rtt_ms, spread_ms, RttSource.PROBE)
    return replace(one, rtts={**one.rtts, where: odd})


def test_a_figure_that_nobody_is_sure_of_moves_nobody() -> None:
    bob = someone("bob", PARIS, FRANKFURT)
    others = [someone(f"p{i}", FRANKFURT) for i in range(2)]
    known = {PARIS: RttEstimate(40.0, 1.0, RttSource.SESSION)}
    bob = replace(bob, rtts={**bob.rtts, **known})
    for spread, expected in ((1.0, {"bob": "eu-frankfurt-1"}), (300.0, {})):
        assert moves(room(claiming(bob, FRANKFURT, 6.0, spread), *others)) == expected


@pytest.mark.parametrize("where", [PARIS, VIRGINIA, SINGAPORE, SYDNEY])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_one_liar_moves_nobody_else(where: RegionId, size: int) -> None:
    """However near it claims to be to whatever region."""
    honest = [someone(f"p{i}", FRANKFURT) for i in range(size - 1)]
    for claim in (0.0, 1.0, 30.0):
        liar = claiming(someone("liar", FRANKFURT), where, claim, 1.0)
        assert moves(room(liar, *honest)).keys() <= {"liar"}
        believed = replace(liar, node=NodeId(f"{where}-1"), region=where)
        assert moves(room(believed, *honest)).keys() <= {"liar"}


def test_one_odd_sample_among_several_moves_nobody() -> None:
    samples: dict[RegionId, tuple[float, ...]] = {
        region(id_): (rtt, rtt + 0.5, rtt + 1) for id_, rtt in NEAR[FRANKFURT].items()
    }
    samples[VIRGINIA] = (1.0, *samples[VIRGINIA])
    known = estimate(samples, NOWHERE, VIEW.topology, VIEW.region_rtt)
    odd = replace(someone("odd", FRANKFURT), rtts=known.rtts)
    assert moves(room(odd, *(someone(f"p{i}", FRANKFURT) for i in range(3)))) == {}
