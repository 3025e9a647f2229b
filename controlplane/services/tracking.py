"""What this process knows of nodes beyond the store: those that it hears, and those whose silence it judges."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from controlplane.core.liveness import REPORT_INTERVAL_S
from controlplane.core.model import NodeId
from controlplane.core.session import NO_FIGURES, EndSession, LinkFigures, LinkReport, PeerRtt
from controlplane.services.emptying import Leaving


@dataclass(slots=True)
class Tracked:
    """One node."""

    number: int = 0
    """Of its newest session here."""
    first_report: bool = False
    """The newest session has reported."""
    heard_at: float | None = None
    """When it last said something here; None for a node that this process never heard, or does not hear any more."""
    broken_at: float | None = None
    """When its session broke without a new one since."""
    written_at: float = 0.0
    """When the store was last told of it."""
    judged_since: float | None = None
    """When this process took over to judge a node that it does not hear: silence counts from then."""
    interval_s: float = REPORT_INTERVAL_S
    """How often it may be expected to report."""
    rtts: tuple[PeerRtt, ...] | None = None
    """As last reported."""
    ends: tuple[EndSession, ...] = ()
    """Sessions that it has to end."""
    links: tuple[LinkReport, ...] = ()
    """As last told to the store, at `links_at`."""
    links_at: float = 0.0
    link_figures: LinkFigures = NO_FIGURES
    leaving: Leaving = field(default_factory=Leaving)
    settled_for: int = 0
    """Version of the topology that everybody on the node was held against."""


class Tracking:
    """All of them, made when they are first asked for. As many as there are nodes: who is gone is forgotten."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, Tracked] = {}

    def of(self, node: NodeId) -> Tracked:
        """Return what is known of a node, to be changed in place."""
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = Tracked()
        return found

    def look(self, node: NodeId) -> Tracked | None:
        """Return what is known of a node, None for nothing."""
        return self._nodes.get(node)

    def forget(self, node: NodeId) -> None:
        """Drop what is known of a node."""
        self._nodes.pop(node, None)

    def ids(self) -> Sequence[NodeId]:
        """Return of whom something is known."""
        return tuple(self._nodes)

    def all(self) -> Sequence[Tracked]:
        """Return everything."""
        return tuple(self._nodes.values())
