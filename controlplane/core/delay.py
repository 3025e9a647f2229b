"""One-way delay between people of a room, from round trips.

    one way(i, j) = (rtt(i, node i) + rtt(node i, node j) + rtt(node j, j)) / 2 + SFU_MS per node on the way

Rooms are summed up per node first, so that a room of a thousand costs what its handful of nodes costs. Sums use
math.fsum: the order in which people joined must not change a digit, or two replicas could decide differently.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.core.mesh import Pair, between
from controlplane.core.model import Assignment, NodeId, ParticipantId, RegionId, Role
from controlplane.core.rtt import unknown_rtt

SFU_MS = 1.0
"""What forwarding costs in one node: queues and batches, not work."""


@dataclass(frozen=True, slots=True)
class Group:
    """People of a room who sit on one node."""

    node: NodeId
    region: RegionId
    count: int
    access_ms: float
    """Sum of their round trips to the node."""


@dataclass(frozen=True, slots=True)
class RoomDelay:
    """Over all ordered pairs (publisher, receiver), in milliseconds one way."""

    mean_ms: float
    worst_ms: float


def access_rtt_ms(assignment: Assignment) -> float:
    """Return the round trip in milliseconds between a participant and its node's region, as estimated."""
    return (assignment.rtts.get(assignment.region) or unknown_rtt()).rtt_ms


def groups(people: Iterable[Assignment]) -> tuple[Group, ...]:
    """Return the people summed up per node, in order of node id."""
    access: dict[NodeId, list[float]] = {}
    regions: dict[NodeId, RegionId] = {}
    for one in people:
        access.setdefault(one.node, []).append(access_rtt_ms(one))
        regions[one.node] = one.region
    return tuple(
        Group(node, regions[node], len(rtts), math.fsum(rtts))
        for node, rtts in sorted(access.items())
    )


def room_delay(people: Iterable[Assignment], region_rtt: Mapping[Pair, float]) -> RoomDelay | None:
    """Return the estimated delay of a room, or None when nobody has anybody to hear."""
    everybody = list(people)
    publishers = groups(one for one in everybody if one.role is Role.PUBLISHER)
    receivers = groups(everybody)
    tops = _Tops(everybody)
    count, sums, worst = 0, [0.0], 0.0
    for sender in publishers:
        for receiver in receivers:
            same = sender.node == receiver.node
            pairs = sender.count * (receiver.count - same)
            if pairs == 0:
                continue
            own = sender.access_ms if same else 0.0
            access = sender.access_ms * (receiver.count - same) + sender.count * receiver.access_ms
            link = 0.0 if same else between(region_rtt, sender.region, receiver.region)
            sfus = SFU_MS if same else 2 * SFU_MS
            sums.append((access - own + pairs * link) / 2 + pairs * sfus)
            worst = max(worst, (tops.farthest(sender.node, receiver.node) + link) / 2 + sfus)
            count += pairs
    return RoomDelay(math.fsum(sums) / count, worst) if count else None


class _Tops:
    """The two farthest publishers and receivers of each node: two, because nobody hears themselves."""

    def __init__(self, people: Iterable[Assignment]) -> None:
        self._publishers: dict[NodeId, list[tuple[float, ParticipantId]]] = {}
        self._receivers: dict[NodeId, list[tuple[float, ParticipantId]]] = {}
        for one in people:
            entry = (access_rtt_ms(one), one.participant)
            self._note(self._receivers, one.node, entry)
            if one.role is Role.PUBLISHER:
                self._note(self._publishers, one.node, entry)

    @staticmethod
    def _note(
        tops: dict[NodeId, list[tuple[float, ParticipantId]]],
        node: NodeId,
        entry: tuple[float, ParticipantId],
    ) -> None:
        tops[node] = sorted([*tops.get(node, []), entry], reverse=True)[:2]

    def farthest(self, sender: NodeId, receiver: NodeId) -> float:
        """Return the largest sum of two access round trips over pairs of different people."""
        return max(
            a + b
            for a, who_sends in self._publishers[sender]
            for b, who_hears in self._receivers[receiver]
            if who_sends != who_hears
        )
