"""The replay: the core's own decisions, with a virtual clock, within the policy's limits."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

from controlplane.core.allocate import Refused, allocate
from controlplane.core.mesh import region_matrix
from controlplane.core.model import Join, NodeId, Policy, RegionId, RttSource, Topology
from controlplane.core.place import Place
from controlplane.core.probes import plan_more, plan_probes
from controlplane.core.rtt import estimate
from controlplane.simulation.client import Clients
from controlplane.simulation.fleet import Fleet
from controlplane.simulation.inputs import Op, TraceEvent
from controlplane.simulation.replay import MOVES_WINDOW_S, Replay, Settings, Step
from tests.simulation.build import (
    PEOPLE,
    calls,
    client_rtts,
    join,
    leave,
    region_rtts,
    topology,
)

SLOW_TO_FAST = ["auckland", "lima", "tokyo", "paris", "berlin", "london", "mumbai", "newyork"]
"""An order in which early seats turn out badly: there is something to move."""


def replay(declared: Topology | None = None, settings: Settings = Settings()) -> Replay:  # noqa: B008
    return Replay(declared or topology(), region_rtts(), client_rtts(), settings)


def run(events: Iterable[TraceEvent], on: Replay | None = None) -> list[Step]:
    on = on or replay()
    return [on.step(event) for event in events]


def growing_rooms(rooms: int = 12) -> list[TraceEvent]:
    events, t = [], 0.0
    for number in range(rooms):
        for index, client in enumerate(SLOW_TO_FAST[number % 5 :] + SLOW_TO_FAST[: number % 5]):
            events.append(join(t, f"room-{number}", f"p{index}", client))
            t += 3.0
    return events


def test_a_join_is_decided_as_the_core_decides_it() -> None:
    declared = topology()
    fleet = Fleet(declared, region_matrix(declared, region_rtts()), report_interval_s=10)
    event = join(0, "r", "ana", "newyork")
    place = Place(PEOPLE["newyork"], "geo")
    plan = plan_probes(place, fleet.world, now=0.0)
    measured = Clients(client_rtts(), noise_ms=0, seed=0).measure(
        "newyork", plan, lambda: plan_more(plan, fleet.world, now=0.0)
    )
    estimates = estimate(measured.answers, place, declared, fleet.world.region_rtt)
    expected = allocate(
        Join(event.room, event.participant, "s"), {}, fleet.world, estimates, now=0.0
    )
    (step,) = run([event])
    assert not isinstance(expected, Refused)
    assert (step.region, step.node) == (expected.region, expected.node)
    assert step.estimate_ms == estimates.rtts[expected.region].rtt_ms
    assert step.probed == measured.asked


def test_a_client_measures_what_the_plan_asks_and_nothing_else() -> None:
    declared = topology()
    world = Fleet(declared, region_matrix(declared, {}), report_interval_s=10).world
    plan = plan_probes(Place(PEOPLE["paris"], "geo"), world, now=0.0)
    first = [probe.region for probe in plan.first]
    further = plan_more(plan, world, now=0.0)
    more = [probe.region for probe in further]
    near = dict.fromkeys(declared.regions, 1.0)
    far = dict.fromkeys(declared.regions, 400.0)
    clients = Clients({"near": near, "far": far, "mute": {}}, noise_ms=0, seed=0)
    assert clients.measure("near", plan, lambda: further).asked == tuple(first)
    assert clients.measure("far", plan, lambda: further).asked == (*first, *more)
    assert clients.measure("mute", plan, lambda: further).asked == (*first, *more)
    assert clients.measure("mute", plan, lambda: further).answers == {}
    assert clients.measure("nobody", plan, lambda: further).answers == {}
    assert set(clients.measure("near", plan, lambda: further).answers) == set(first)


def test_no_join_probes_more_than_the_plan_has() -> None:
    for step in run(calls(12, 5)):
        assert len(step.probed) == len(set(step.probed)) <= len(topology().regions)
        assert bool(step.probed) <= (step.event.op is Op.JOIN)


def test_the_same_trace_gives_the_same_steps() -> None:
    noisy = Settings(noise_ms=8.0, seed=3)
    events = calls(10, 5)
    first, again = run(events, replay(settings=noisy)), run(events, replay(settings=noisy))
    assert [step.record() for step in first] == [step.record() for step in again]
    other = run(events, replay(settings=Settings(noise_ms=8.0, seed=4)))
    assert [step.estimate_ms for step in first] != [step.estimate_ms for step in other]


def test_noise_only_ever_adds() -> None:
    known = client_rtts()
    for event in calls(4, 4, stay=True):
        (step,) = run([event], replay(settings=Settings(noise_ms=20.0, seed=1)))
        assert step.region is not None
        assert step.estimate_ms is not None
        assert step.estimate_ms >= known[event.client][step.region]


def test_moves_gain_what_the_policy_asks_and_stay_within_its_limits() -> None:
    policy = Policy(rehomes_per_room=2, rehomes_per_fleet=5)
    on = replay(topology(policy=policy))
    steps = run(growing_rooms(), on)
    moves = [(step.event.t, step.event.room, move) for step in steps for move in step.moves]
    assert moves, "there was nothing to move: the test shows nothing"
    assert all(move.gain_ms >= policy.rehome_gain_ms for *_, move in moves)
    for t, room, move in moves:
        minute = [one for one in moves if t - MOVES_WINDOW_S < one[0] <= t]
        assert len(minute) <= policy.rehomes_per_fleet
        assert sum(one[1] == room for one in minute) <= policy.rehomes_per_room
        same = [one for one in minute if (one[1], one[2].participant) == (room, move.participant)]
        assert len(same) == 1
    assert on.counts.moves == len(moves)
    assert on.counts.smallest_gain_ms == min(move.gain_ms for *_, move in moves)


def test_nobody_is_moved_when_the_policy_forbids_it() -> None:
    policy = Policy(rehomes_per_room=0)
    assert not any(step.moves for step in run(growing_rooms(), replay(topology(policy=policy))))


def test_links_join_exactly_the_nodes_of_the_room() -> None:
    seats: dict[str, dict[str, NodeId]] = defaultdict(dict)
    for step in run([*growing_rooms(), *(leave(1000 + n, "room-0", f"p{n}") for n in range(8))]):
        room = seats[step.event.room]
        if step.event.op is Op.LEAVE:
            del room[step.event.participant]
        elif step.node is not None:
            room[step.event.participant] = step.node
        for move in step.moves:
            assert room[move.participant] == move.from_node
            room[move.participant] = move.to_node
        nodes = sorted(set(room.values()))
        assert step.links == tuple((a, b) for a in nodes for b in nodes if a < b)


def test_a_leave_of_somebody_unknown_is_counted_and_changes_nothing() -> None:
    on = replay()
    steps = run(
        [leave(0, "r", "x"), join(1, "r", "ana", "paris"), leave(2, "r", "x"), leave(3, "r", "ana"),
         leave(4, "r", "ana")], on,
    )  # fmt: skip
    assert on.counts.unknown_leaves == 3
    assert on.counts.leaves == 4
    assert all(step.region is None and step.node is None for step in steps if step is not steps[1])
    assert sum(node.participants for node in on.fleet.world.nodes.values()) == 0


def test_joining_again_is_a_refresh_and_from_elsewhere_a_new_seat() -> None:
    on = replay()
    first, again, elsewhere = run(
        [
            join(0, "r", "ana", "berlin"),
            join(1, "r", "ana", "berlin"),
            join(2, "r", "ana", "tokyo"),
        ],
        on,
    )
    assert (again.node, again.probed) == (first.node, ())
    assert elsewhere.region == "singapore"
    assert on.counts.rejoins == 2
    (record,) = on.records()
    assert [guest.client for guest in record.guests] == ["tokyo"]
    assert sum(on.fleet.world.placed.values()) == 1


def test_a_full_fleet_refuses_and_says_why() -> None:
    on = replay(topology("frankfurt", capacity=2))
    steps = run([join(n, "r", f"p{n}", "paris") for n in range(3)], on)
    refused = steps[2].record()
    assert (refused["region"], refused["node"], refused["estimate_ms"]) == (None, None, None)
    assert "full" in refused["refusal"]
    assert "refusal" not in steps[0].record()
    assert on.counts.refused == 1


def test_a_call_teaches_the_next_of_its_network_and_not_at_once() -> None:
    on = replay()
    lost = {"located": False}
    (before,) = run([join(0, "a", "ana", "auckland", **lost)], on)
    (too_soon,) = run([join(5, "b", "bob", "auckland", **lost)], on)
    (after,) = run([join(60, "c", "eve", "auckland", **lost)], on)
    assert len(too_soon.probed) == len(before.probed)
    assert len(after.probed) <= len(before.probed)
    assert after.region == "sydney"


def test_the_edge_knows_the_truth_of_a_call_after_some_seconds() -> None:
    on = replay(settings=Settings(noise_ms=0.0))
    run([join(0, "r", "ana", "paris"), join(9, "r", "bob", "berlin"), leave(25, "x", "x")], on)
    room = on._rooms[join(0, "r", "ana", "paris").room]
    for who, one in room.assignments.items():
        known = one.rtts[one.region]
        assert known.source is RttSource.SESSION, who
        assert known.rtt_ms == client_rtts()[room.seats[who].join.client][one.region]


def test_a_room_is_remembered_at_its_fullest() -> None:
    on = replay()
    run([*(join(n, "r", f"p{n}", "paris") for n in range(4)), *(leave(9 + n, "r", f"p{n}") for n in range(4)),
         join(50, "r", "late", "berlin")], on)  # fmt: skip
    (record,) = on.records()
    assert [guest.client for guest in record.guests] == ["paris"] * 4
    assert record.first.participant == "p0"


def test_without_measured_links_the_topology_counts() -> None:
    declared = topology("frankfurt", "virginia")
    on = Replay(declared, {}, client_rtts(), Settings())
    matrix = on.fleet.world.region_rtt
    assert matrix == region_matrix(declared, {})
    assert matrix[RegionId("frankfurt"), RegionId("virginia")] > 50


@pytest.mark.parametrize(
    ("people", "seconds", "size"), [(92, 31.0, 1), (92, 31.0, 4), (200, 1.0, 1)]
)
def test_bursts_do_not_herd(people: int, seconds: float, size: int) -> None:
    on = replay(topology("frankfurt", nodes=12))
    steps = run(
        [join(seconds * n / people, f"room-{n // size}", f"p{n}", "berlin") for n in range(people)],
        on,
    )
    fullest = max(Counter(step.node for step in steps).values())
    assert fullest <= 1.3 * people / 12
    assert on.fleet.spreads()[RegionId("frankfurt")].fullest == fullest
