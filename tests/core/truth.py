"""Small Internets whose truth is known: what probes see of them, where people are put, and what that costs them.

Round trips are geometry with noise: fibre with detours that differ from pair to pair, a last mile, and an address
database that is some hundred kilometres off. None of it is the model that core/geo.py assumes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import cos, radians
from random import Random
from statistics import fmean

from controlplane.core.allocate import allocate
from controlplane.core.delay import SFU_MS
from controlplane.core.geo import fibre_rtt_ms, great_circle_km
from controlplane.core.mesh import Pair
from controlplane.core.model import (
    Assignment,
    Decision,
    Join,
    Location,
    ParticipantId,
    Policy,
    Region,
    RegionId,
    RoomId,
    RttEstimate,
    RttSource,
    Topology,
)
from controlplane.core.place import NOWHERE, Place
from controlplane.core.probes import plan_probes
from controlplane.core.rtt import NOTHING, Estimates, Rtts, estimate
from controlplane.core.sums import NOBODY, Sums, adding
from controlplane.core.world import World
from tests.core.build import NOW, node, seat

KM_PER_DEGREE = 111.2


@dataclass(frozen=True)
class Client:
    """Somebody who joins."""

    place: Place
    """As the address database has it."""
    rtts: Mapping[RegionId, float]
    """The truth."""
    lessons: Rtts
    """What others of its network taught of its two nearest regions."""


@dataclass(frozen=True)
class Internet:
    """One world with its people."""

    world: World
    clients: Sequence[Client]


@dataclass(frozen=True)
class _Site:
    """A town or a data centre."""

    location: Location
    detour: float
    """How much longer than the crow's flight all ways from here are: a country with one cable has a large one."""


def _site(location: Location, dice: Random) -> _Site:
    return _Site(location, dice.gammavariate(1.5, 0.1))


def _rtt_ms(a: _Site, b: _Site, dice: Random) -> float:
    """Fibre takes half of the way again in the mean: for either end's sake, and for no reason."""
    longer = 1.1 + a.detour + b.detour + dice.gammavariate(1.5, 0.1)
    return fibre_rtt_ms(great_circle_km(a.location, b.location)) * longer


def _somewhere(dice: Random) -> Location:
    return Location(dice.uniform(-40, 60), dice.uniform(-180, 180))


def _away(here: Location, km: float, dice: Random, radius_km: float | None = None) -> Location:
    lat = max(-85.0, min(85.0, here.lat + dice.gauss(0, km) / KM_PER_DEGREE))
    lon = here.lon + dice.gauss(0, km) / KM_PER_DEGREE / cos(radians(lat))
    return Location(lat, (lon + 180) % 360 - 180, radius_km)


def internet(
    seed: int, *, regions: int = 9, clients: int = 4, policy: Policy | None = None
) -> Internet:
    """Some people about one town and the others anywhere, as rooms are."""
    dice = Random(seed)  # noqa: S311 - the same world each time
    sites = {RegionId(f"r{index}"): _site(_somewhere(dice), dice) for index in range(regions)}
    matrix: dict[Pair, float] = {}
    for a, here in sites.items():
        for b, there in sites.items():
            if a <= b:
                matrix[a, b] = matrix[b, a] = 1.0 + _rtt_ms(here, there, dice)
    declared = {id_: Region(id_, id_.title(), site.location) for id_, site in sites.items()}
    nodes = [node(f"{id_}-1", id_, capacity=400) for id_ in declared]
    town = _somewhere(dice)
    people = []
    for _ in range(clients):
        where = _away(town, 400, dice) if dice.random() < 0.5 else _somewhere(dice)
        home = _site(where, dice)
        last_mile = 1.0 + dice.expovariate(0.2)
        truth = {id_: last_mile + _rtt_ms(home, site, dice) for id_, site in sites.items()}
        believed = Place(_away(where, 150, dice, 200.0), "geo")
        lessons = {
            id_: RttEstimate(max(0.0, dice.gauss(truth[id_], 6.0)), 8.0, RttSource.LEARNED, 3600.0)
            for id_ in sorted(truth, key=truth.__getitem__)[:2]
        }
        people.append(Client(believed, truth, lessons))
    view = World(
        Topology(declared, policy=policy or Policy()), {one.id: one for one in nodes}, matrix
    )
    return Internet(view, people)


Knowing = Callable[[Client, World, Sums], Estimates]
"""What is known of a client when it joins a room of which these are the sums."""


def probing(count: int, *, located: bool = True, taught: bool = False) -> Knowing:
    """It measures as many regions as the plan names first.

    Its place may be known, and others of its network may have taught the round trips to its two nearest regions.
    """

    def known(client: Client, view: World, others: Sums) -> Estimates:
        topology = view.topology
        policy = replace(topology.policy, probe_regions=count)
        place = client.place if located else NOWHERE
        learned = client.lessons if taught else NOTHING
        asking = replace(view, topology=replace(topology, policy=policy))
        plan = plan_probes(place, asking, learned, others, now=NOW).first[:count]
        samples = {one.region: (client.rtts[one.region],) * 3 for one in plan}
        return estimate(samples, place, topology, view.region_rtt, learned)

    return known


def everything(client: Client, view: World, others: Sums) -> Estimates:
    """The truth, as if it were known."""
    return Estimates(
        {id_: RttEstimate(rtt, 0.1, RttSource.SESSION) for id_, rtt in client.rtts.items()}
    )


def seated(net: Internet, knowing: Knowing) -> list[Assignment]:
    """Let everybody join, one after the other."""
    people: list[Assignment] = []
    sums = NOBODY
    for index, client in enumerate(net.clients):
        known = knowing(client, net.world, sums)
        who = Join(RoomId("standup"), ParticipantId(f"p{index}"), "s")
        decision = allocate(who, sums, net.world, known, now=NOW)
        assert isinstance(decision, Decision)
        people.append(seat(f"p{index}", net.world.nodes[decision.node], known=known))
        sums = adding(sums, people[-1])
    return people


def true_cost(net: Internet, people: Sequence[Assignment]) -> float:
    """What placement minimises, by the truth: over all pairs, one-way delay + edge weight x mean access."""
    matrix, costs = net.world.region_rtt, []
    weight = net.world.topology.policy.edge_weight
    seats = [
        (one.region, client.rtts[one.region])
        for one, client in zip(people, net.clients, strict=True)
    ]
    for (a, to_a), (b, to_b) in combinations(seats, 2):
        link = SFU_MS if a == b else matrix[a, b] / 2 + 2 * SFU_MS
        costs.append(link + (1 + weight) * (to_a + to_b) / 2)
    return fmean(costs)
