"""The virtual nodes: what they carry, what they have reported, and how evenly they came to be filled."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from controlplane.core.load import reported_load
from controlplane.core.mesh import Pair
from controlplane.core.model import Node, NodeId, NodeState, RegionId, Topology
from controlplane.core.world import World


@dataclass(frozen=True, slots=True)
class Spread:
    """How a region's people lay on its nodes when it had the most."""

    people: int
    nodes: int
    fullest: int
    """People on its fullest node."""

    @property
    def ratio(self) -> float:
        """The fullest node's people over the mean: 1 is even."""
        return self.fullest * self.nodes / self.people if self.people else 1.0


class Fleet:
    """Every region's `desired` nodes of `capacity`, always up. `world` is what a decision may know of them.

    All report at once, every `report_interval_s` of virtual time: the worst case for a herd. Between reports the world
    counts own placements (`World.placed`), and knows nothing of those who left after a report had shown them.
    """

    def __init__(
        self, topology: Topology, region_rtt: Mapping[Pair, float], *, report_interval_s: float
    ) -> None:
        self._interval = report_interval_s
        self._next_report: float | None = None
        self.report = 0
        """Number of the last report; who was seated after it is not in it."""
        self._people: Counter[NodeId] = Counter()
        self._changed: set[NodeId] = set()
        self._placed: dict[NodeId, int] = {}
        self._nodes = {node.id: node for node in _nodes(topology)}
        self.world = World(topology, self._nodes, region_rtt, self._placed)
        self._by_region: dict[RegionId, list[NodeId]] = {}
        for node in self._nodes.values():
            self._by_region.setdefault(node.region, []).append(node.id)
        self._region_people: Counter[RegionId] = Counter()
        self._most: Counter[RegionId] = Counter()
        self._peaks: dict[RegionId, Spread] = {}

    def advance(self, now: float) -> None:
        """Let the nodes report what they carry, if a report was due by now."""
        if self._next_report is None:
            self._next_report = now + self._interval
        if now < self._next_report:
            return
        missed = int((now - self._next_report) // self._interval) if self._interval else 0
        self._next_report += (missed + 1) * self._interval
        self.report += 1
        for id_ in self._changed:
            people, node = self._people[id_], self._nodes[id_]
            load = reported_load(0.0, people, node.capacity)
            self._nodes[id_] = replace(node, participants=people, load=load)
        self._changed.clear()
        self._placed.clear()

    def seat(self, id_: NodeId) -> int:
        """Put somebody on a node and return the number of the last report, which does not know it yet."""
        region = self._nodes[id_].region
        self._people[id_] += 1
        self._changed.add(id_)
        self._placed[id_] = self._placed.get(id_, 0) + 1
        self._region_people[region] += 1
        self._most[region] = max(self._most[region], self._region_people[region])
        return self.report

    def free(self, id_: NodeId, report: int) -> None:
        """Take somebody off a node who was seated when `report` was the last one."""
        region = self._nodes[id_].region
        self._note_peak(region)
        self._people[id_] -= 1
        self._changed.add(id_)
        self._region_people[region] -= 1
        if report == self.report:
            self._placed[id_] -= 1

    def spreads(self) -> dict[RegionId, Spread]:
        """Return how evenly each region with people was filled, at its fullest so far."""
        for region in self._by_region:
            self._note_peak(region)
        return dict(sorted(self._peaks.items()))

    def _note_peak(self, region: RegionId) -> None:
        """Keep the picture of a region that is at its fullest: it is about to change."""
        people = self._region_people[region]
        if people and people == self._most[region]:
            nodes = self._by_region[region]
            fullest = max(self._people[node] for node in nodes)
            self._peaks[region] = Spread(people, len(nodes), fullest)


def _nodes(topology: Topology) -> list[Node]:
    return [
        Node(
            # The only node of a region has its name: one word less in every line of what comes out.
            id=NodeId(f"{region.id}-{number}" if region.desired_nodes > 1 else region.id),
            region=region.id,
            http_url="",
            media_host="",
            media_port=0,
            trunk_target="",
            capacity=region.node_capacity,
            engine="",
            version="",
            state=NodeState.SERVING,
            # Always just heard of: a late report makes load stale here, not nodes.
            heard_at=float("inf"),
            registered_at=float("-inf"),
        )
        for region in topology.regions.values()
        for number in range(1, region.desired_nodes + 1)
    ]
