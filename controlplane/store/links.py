"""What sending ends said of their links: kept as they said it, and put together when somebody asks for a room.

A fleet has tens of thousands of links, each with figures that change every two seconds; an object for each time would
be most of what Python's cycle collector has to look at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.core.model import LinkStatus, NodeId, RoomId
from controlplane.core.session import NO_FIGURES, LinkFigures, LinkReport

LinkKey = tuple[RoomId, NodeId]
"""Of one sender: room and far end."""


@dataclass(slots=True)
class _Sender:
    reports: Sequence[LinkReport] = ()
    figures: LinkFigures = NO_FIGURES
    """In the order of the reports; empty when nothing is known."""
    places: dict[RoomId, list[int]] = field(default_factory=dict)
    """Where in the reports each room's links are."""


class Links:
    """By sender: from the reports of a node that is heard here, or one by one from who hears it."""

    def __init__(self) -> None:
        self._said: dict[NodeId, _Sender] = {}
        self._told: dict[NodeId, dict[RoomId, dict[NodeId, LinkReport]]] = {}

    def of_room(self, room: RoomId) -> list[LinkStatus]:
        """Return a room's links, in order of their senders."""
        found: list[LinkStatus] = []
        for node in sorted({*self._said, *self._told}):
            sender = self._said.get(node)
            if sender is None:
                told = self._told[node].get(room, {})
                found += [_status(node, one) for one in told.values()]
            else:
                found += [_counted(node, sender, at) for at in sender.places.get(room, ())]
        return found

    def of(self, node: NodeId) -> Mapping[LinkKey, LinkReport]:
        """Return a sender's links."""
        return {(one.room, one.to_node): one for one in self._of(node)}

    def say(
        self, node: NodeId, reports: Sequence[LinkReport], figures: LinkFigures
    ) -> Mapping[LinkKey, LinkReport] | None:
        """Replace a sender's links; return those of before, None if they are the same and only figures are news."""
        known = self._said.get(node)
        if known is not None and known.reports is reports:
            known.figures = figures
            return None
        before = self.of(node)
        self._told.pop(node, None)
        places: dict[RoomId, list[int]] = {}
        for at, one in enumerate(reports):
            places.setdefault(one.room, []).append(at)
        self._said[node] = _Sender(reports, figures, places)
        return before

    def tell(self, node: NodeId, key: LinkKey, report: LinkReport | None) -> None:
        """Replace one link, or forget it; somebody else hears the node."""
        told = self._told.get(node)
        if told is None:
            if report is None and node not in self._said:
                return
            told = {}
            for one in self._of(node):
                told.setdefault(one.room, {})[one.to_node] = one
            self._said.pop(node, None)
            self._told[node] = told
        room, to = key
        if report is not None:
            told.setdefault(room, {})[to] = report
        elif room in told:
            told[room].pop(to, None)
            if not told[room]:
                del told[room]

    def drop(self, node: NodeId) -> None:
        """Forget a sender."""
        self._said.pop(node, None)
        self._told.pop(node, None)

    def _of(self, node: NodeId) -> Iterator[LinkReport]:
        sender = self._said.get(node)
        if sender is not None:
            yield from sender.reports
        for told in self._told.get(node, {}).values():
            yield from told.values()


def _counted(node: NodeId, sender: _Sender, at: int) -> LinkStatus:
    figures = [column[at] if column else 0 for column in sender.figures]
    return _status(node, sender.reports[at], *figures)


def _status(
    node: NodeId, one: LinkReport, packets: int = 0, repaired: int = 0, lost: int = 0
) -> LinkStatus:
    return LinkStatus(one.room, node, one.to_node, one.state, one.tracks, packets, repaired, lost)
