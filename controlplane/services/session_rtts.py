"""What the edges measure on live calls, passed on to the table of networks and to the participants' own round trips."""

from collections.abc import Mapping

from controlplane.core.learned import RttSample
from controlplane.core.model import Assignment, Node, NodeId, RttEstimate
from controlplane.core.session import NodeReport
from controlplane.core.session_rtt import Key, SessionWindows
from controlplane.store.base import Store


class SessionRtts:
    """Gathers, judges and passes on; core/session_rtt.py says what is worth telling."""

    def __init__(self, store: Store, *, declared_only: bool = False) -> None:
        """Begin without figures; `declared_only` takes none in for ever (a demo on loopback pretends its distances)."""
        self._store = store
        self._declared_only = declared_only
        self._windows = SessionWindows()

    async def take(
        self, node: Node, report: NodeReport, *, now: float
    ) -> Mapping[Key, RttEstimate]:
        """Take in a node's report, teach the store, and return new figures between participants and the node's region.

        Only people who belong on this node with the epoch that it reports count: a session that should be elsewhere,
        or that nobody assigned, teaches nothing.
        """
        if self._declared_only:
            return {}
        told = self._windows.take(node.id, report.participants, report.client_rtts, now=now)
        if not told:
            return {}
        believed: dict[Key, RttEstimate] = {}
        samples: list[RttSample] = []
        for seat in await self._store.assignments_on(node.id):
            figure = told.get((seat.room, seat.participant))
            if figure is None or figure.epoch != seat.epoch:
                continue
            believed[seat.room, seat.participant] = figure.rtt
            if seat.network:
                samples.append(_sample(seat, figure.rtt))
        if samples:
            await self._store.learn(samples, now=now)
        return believed

    def forget(self, node: NodeId) -> None:
        """Drop what is open of a node that is gone."""
        self._windows.forget(node)


def _sample(seat: Assignment, rtt: RttEstimate) -> RttSample:
    # The person, not the session: who joins again and again has still one vote.
    who = f"{seat.room}/{seat.participant}"
    return RttSample(seat.network, seat.region, rtt.rtt_ms, who)
