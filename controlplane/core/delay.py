"""One-way delay between people of a room, from round trips.

    one way(i, j) = (rtt(i, node i) + rtt(node i, node j) + rtt(node j, j)) / 2 + SFU_MS per node on the way

Rooms are summed up per node first (core/sums.py), so that a room of a thousand costs what its handful of nodes costs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controlplane.core.mesh import Pair, between
from controlplane.core.model import Assignment, NodeId, ParticipantId, Role
from controlplane.core.sums import Group, Sums, access_rtt, sum_up

SFU_MS = 1.0
"""What forwarding costs in one node: queues and batches, not work."""


@dataclass(frozen=True, slots=True)
class RoomDelay:
    """Over all ordered pairs (publisher, receiver), in milliseconds one way."""

    mean_ms: float
    worst_ms: float


def room_delay(people: Iterable[Assignment], region_rtt: Mapping[Pair, float]) -> RoomDelay | None:
    """Return the estimated delay of a room, or None when nobody has anybody to hear."""
    everybody = list(people)
    sums = sum_up(everybody)
    mean_ms = mean_delay_ms(sums, region_rtt)
    if mean_ms is None:
        return None
    tops = _Tops(everybody)
    worst = 0.0
    for sender, receiver, pairs in _pairs(sums):
        if pairs:
            farthest = tops.farthest(sender.node, receiver.node)
            worst = max(worst, farthest / 2 + _between_ms(sender, receiver, region_rtt))
    return RoomDelay(mean_ms, worst)


def mean_delay_ms(sums: Sums, region_rtt: Mapping[Pair, float]) -> float | None:
    """Return the mean over all ordered pairs (publisher, receiver); None when there is none."""
    count, access_us, links_ms = 0, 0, 0.0
    for sender, receiver, pairs in _pairs(sums):
        if pairs:
            count += pairs
            heard_by = receiver.count - (sender.node == receiver.node)
            access_us += sender.publisher_us * heard_by
            access_us += sender.publishers * (receiver.publisher_us + receiver.viewer_us)
            if sender.node == receiver.node:
                access_us -= sender.publisher_us  # nobody hears themselves
            links_ms += pairs * _between_ms(sender, receiver, region_rtt)
    return (access_us / 2000 + links_ms) / count if count else None


def _pairs(sums: Sums) -> Iterator[tuple[Group, Group, int]]:
    """Yield every ordered pair of nodes, in order of id, with the number of pairs (publisher, receiver) between."""
    groups = [sums[node] for node in sorted(sums)]
    for sender in groups:
        for receiver in groups:
            same = sender.node == receiver.node
            yield sender, receiver, sender.publishers * (receiver.count - same)


def _between_ms(sender: Group, receiver: Group, region_rtt: Mapping[Pair, float]) -> float:
    """Return the one-way delay from one node's door to the other's."""
    if sender.node == receiver.node:
        return SFU_MS
    return between(region_rtt, sender.region, receiver.region) / 2 + 2 * SFU_MS


class _Tops:
    """The two farthest publishers and receivers of each node: two, because nobody hears themselves."""

    def __init__(self, people: Iterable[Assignment]) -> None:
        self._publishers: dict[NodeId, list[tuple[float, ParticipantId]]] = {}
        self._receivers: dict[NodeId, list[tuple[float, ParticipantId]]] = {}
        for one in people:
            entry = (access_rtt(one).rtt_ms, one.participant)
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
