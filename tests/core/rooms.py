"""Rooms of any kind for the improvement step, and what they cost by going through every pair."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from statistics import fmean

from hypothesis import strategies as st

from controlplane.core.delay import SFU_MS
from controlplane.core.mesh import between
from controlplane.core.model import (
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
from controlplane.core.rehome import Rehome
from controlplane.core.rtt import Estimates
from controlplane.core.sums import access_rtt
from controlplane.core.world import World
from tests.core.build import CITIES, NOW, node, room, seat, topology

REGIONS = [RegionId(id_) for id_ in sorted(CITIES)]
MARS = RegionId("mars")
"""A region that the topology does not declare any more."""

SETTLED = NOW - 3600
"""When people came who have long been there."""

NO_LIMITS = Policy(rehome_gain_ms=0.0, rehomes_per_room=1000)

moved_times = st.none() | st.sampled_from([NOW - 3600, NOW - 61, NOW - 59, NOW - 1, NOW])


def exactly(values: Mapping[RegionId, float]) -> Estimates:
    """Round trips without doubt: how much doubt counts is the step's own matter."""
    return Estimates(
        {id_: RttEstimate(value, 0.0, RttSource.SESSION) for id_, value in values.items()}
    )


@st.composite
def rooms(
    draw: st.DrawFn, *, people: int = 7, nodes: bool = True, policy: Policy | None = None
) -> tuple[Room, World]:
    """Any room in any world: round trips that no geometry gives, nodes in any state, people with requirements."""
    links = {}
    for a, b in combinations(REGIONS, 2):
        links[a, b] = links[b, a] = draw(st.floats(0, 300))
    links.update({(a, a): 1.0 for a in REGIONS})
    fleet = [
        node(
            f"{id_}-{number}",
            id_,
            state=draw(st.sampled_from([NodeState.SERVING] * 3 + list(NodeState)))
            if nodes
            else NodeState.SERVING,
            load=draw(st.sampled_from([0.0, 0.3, 0.95, 1.0])) if nodes else 0.0,
        )
        for id_ in REGIONS
        for number in range(2 if nodes else 1)
    ]
    gone = [node("gone", MARS), node("gone-too", REGIONS[0])] if nodes else []
    seats = [
        replace(
            seat(
                f"p{index}",
                draw(st.sampled_from([*fleet, *gone])),
                role=draw(st.sampled_from(Role)),
                known=exactly({id_: draw(st.floats(0, 300)) for id_ in [*REGIONS, MARS]}),
                require=Requirements(
                    residency=draw(st.sampled_from([frozenset[str]()] * 3 + [frozenset({"eu"})])),
                    regions=draw(
                        st.sampled_from([frozenset[RegionId]()] * 3 + [frozenset(REGIONS[:2])])
                    ),
                ),
            ),
            assigned_at=SETTLED,
            moved_at=draw(moved_times) if nodes else None,
        )
        for index in range(draw(st.integers(2, people)))
    ]
    declared = topology(
        policy=policy
        or Policy(
            rehome_gain_ms=draw(st.sampled_from([0.0, 0.5, 3.0, 20.0])),
            rehomes_per_room=draw(st.sampled_from([0, 1, 2, 6, 100])),
        )
    )
    return room(*seats), World(declared, {one.id: one for one in fleet}, links)


def cost(view: World, of: Room) -> float:
    """The mean over all pairs that exchange media: one-way delay + edge weight x mean access round trip."""
    weight = view.topology.policy.edge_weight
    costs = []
    for one, other in combinations(of.assignments.values(), 2):
        if Role.PUBLISHER not in (one.role, other.role):
            continue
        apart = one.region != other.region
        link = between(view.region_rtt, one.region, other.region) if apart else 0.0
        access = access_rtt(one).rtt_ms + access_rtt(other).rtt_ms
        costs.append((access + link) / 2 + SFU_MS * (1 + apart) + weight * access / 2)
    return fmean(costs) if costs else 0.0


def after(of: Room, moves: tuple[Rehome, ...], *, at: float | None = None) -> Room:
    """The room when these people have been moved, noting when if it is given."""
    people = dict(of.assignments)
    for one in moves:
        people[one.participant] = replace(
            people[one.participant], node=one.to_node, region=one.to_region, moved_at=at
        )
    return Room(of.id, people)


def put(of: Room, regions: Mapping[ParticipantId, RegionId]) -> Room:
    """The same people in other regions."""
    return Room(
        of.id,
        {who: replace(one, region=regions[who]) for who, one in of.assignments.items()},
    )
