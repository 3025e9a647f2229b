"""The reads of every store: from memory, without leaving the process."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from controlplane.core.model import (
    Assignment,
    Drain,
    LinkStatus,
    Node,
    NodeId,
    ParticipantId,
    RegionId,
    Room,
    RoomId,
    RttEstimate,
    RttSource,
)
from controlplane.core.sums import Sums
from controlplane.store.base import StoredTopology
from controlplane.store.hints import Hints
from controlplane.store.packing import PackedRtts
from controlplane.store.view import Key, View, key_of


class Reads:
    """What stores have in common: see controlplane/store/base.py for what each method says."""

    def __init__(self) -> None:
        self._view = View()
        self._hints = Hints()

    async def topology(self) -> StoredTopology | None:
        """See Store.topology."""
        return self._hints.topology

    async def room(self, room: RoomId) -> Room:
        """See Store.room."""
        return self._view.room(room)

    async def sums(self, room: RoomId) -> Sums:
        """See Store.sums."""
        return self._view.sums(room)

    async def rooms(
        self, *, after: RoomId | None, limit: int, tenant: str | None = None
    ) -> Sequence[Room]:
        """See Store.rooms."""
        return self._view.rooms(after=after, limit=limit, tenant=tenant)

    async def assignment(self, room: RoomId, participant: ParticipantId) -> Assignment | None:
        """See Store.assignment."""
        return self._view.live((room, participant))

    async def last_epoch(self, room: RoomId, participant: ParticipantId) -> int:
        """See Store.last_epoch."""
        return self._view.last_epoch((room, participant))

    async def assignments_on(self, node: NodeId) -> Sequence[Assignment]:
        """See Store.assignments_on."""
        return self._view.on_node(node)

    async def expired(self, *, now: float, limit: int) -> Sequence[Assignment]:
        """See Store.expired."""
        return self._view.expired(now=now, limit=limit)

    async def drains(self) -> Mapping[NodeId, Drain]:
        """See Store.drains."""
        return self._hints.all_drains()

    async def nodes(self) -> Mapping[NodeId, Node]:
        """See Store.nodes."""
        return self._hints.all_nodes()

    async def links(self, room: RoomId) -> Sequence[LinkStatus]:
        """See Store.links."""
        return self._hints.links.of_room(room)

    async def learned(self, network: str, *, now: float) -> Mapping[RegionId, RttEstimate]:
        """See Store.learned."""
        return self._hints.learned.look(network, now=now)


def spare_places(view: View, node: Node | None, proposal: Assignment, now: float) -> int | None:
    """Return how many places the proposal's node has left behind it, as far as `view` goes; negative for none for it.

    None for any number: the node is not known, or the place is the participant's already. Who is expected has a place
    until the lease is over, ended or not: while Redis is away nobody is.
    """
    if node is None or proposal.live:
        return None
    before = view.live(key_of(proposal))
    if before is not None and before.node == node.id:
        return None
    spare = node.capacity - view.count_on(node.id) - 1
    if spare < 0:
        spare += sum(one.expires_at <= now for one in view.on_node(node.id))
    return spare


def refreshed(live: Assignment, proposal: Assignment) -> Assignment:
    """Return the assignment that a session has, when the same session joins again."""
    return replace(
        live,
        expires_at=max(live.expires_at, proposal.expires_at),
        rtts=PackedRtts.of(proposal.rtts) if proposal.rtts else live.rtts,
        network=proposal.network or live.network,
    )


def with_report(live: Assignment, noted: Assignment) -> Assignment:
    """Return the assignment with what its node reported of it."""
    return replace(
        live,
        tracks=noted.tracks,
        live=noted.live,
        expires_at=noted.expires_at,
        rtts=_with_measured(live.rtts, noted.rtts),
    )


def _with_measured(
    known: Mapping[RegionId, RttEstimate], noted: Mapping[RegionId, RttEstimate]
) -> Mapping[RegionId, RttEstimate]:
    """Return `known` with those of `noted` that were measured in the call."""
    if noted is known:
        return known
    measured = {region: rtt for region, rtt in noted.items() if rtt.source is RttSource.SESSION}
    return PackedRtts.of({**known, **measured}) if measured else known


def admission(event: str, admitted: Assignment, from_node: str | None) -> dict[str, object]:
    """Return the data of an admission's event."""
    data: dict[str, object] = {
        "room": admitted.room,
        "participant": admitted.participant,
        "node": admitted.node,
        "region": admitted.region,
        "epoch": admitted.epoch,
    }
    if event == "participant.moved":
        data["from_node"] = from_node
        data["reason"] = next(iter(admitted.decision.because), "")
    else:
        data["because"] = list(admitted.decision.because)
    return data


def ending(key: Key, epoch: int, reason: str) -> dict[str, object]:
    """Return the data of an ending's event."""
    return {"room": key[0], "participant": key[1], "epoch": epoch, "reason": reason}
