"""The state that replicas share, behind one protocol.

Methods are grouped by what they guarantee; a new store starts from this docstring:

- **Atomic**: `admit`, `end`, `put_topology`. Each is one indivisible step. The loser of a race is told
  (`Conflict`), never silently overwritten. Nothing is check-then-set.
- **Consistent reads**: `room`, `sums`, `assignment`, `rooms`, `topology` see every atomic step that returned before
  them.
- **Hints**: nodes, link reports, learned round trips. Last writer wins, they may be a report old; the node itself is
  the authority for admission.
- **Events**: appended by the atomic steps themselves, so that no change is without its event; kept for a
  bounded number, resumable by id.

Epochs of a participant only grow, across leave and join too.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.core.learned import RttSample
from controlplane.core.model import (
    Assignment,
    Event,
    LinkStatus,
    Node,
    NodeId,
    ParticipantId,
    RegionId,
    Room,
    RoomId,
    RttEstimate,
)
from controlplane.core.sums import Sums


@dataclass(frozen=True, slots=True)
class Admitted:
    """The assignment is in force."""

    assignment: Assignment
    created: bool
    """False when the same session already had one: that one is returned."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody else was faster; `current` is what is true now."""

    current: Assignment | None


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is."""

    rooms: int
    """Rooms with a live assignment."""
    assignments: int
    networks: int
    """Client networks whose round trips are known."""


@dataclass(frozen=True, slots=True)
class StoredTopology:
    """The operators' YAML as they wrote it, with its version."""

    version: int
    text: str


class Store(Protocol):
    """See the module's docstring for what each group guarantees."""

    # --- atomic ---------------------------------------------------------------------------------

    async def admit(
        self, proposal: Assignment, *, replaces: int | None, event: str, now: float
    ) -> Admitted | Conflict:
        """Put `proposal` in force, its epoch replaced by one above it and above all that the participant ever had.

        `replaces` is the epoch of the live assignment that the caller has seen, None if it saw none.
        A live assignment with the same session, when `replaces` is None, is returned as it is with
        `created=False`, its `expires_at` (never backwards) and, where the proposal has any, its `rtts` and `network`
        taken from the proposal. A live assignment whose epoch is not `replaces` gives `Conflict`; so does `replaces`
        without a live assignment, or somebody who left meanwhile would be brought back.

        `event` is the type of the event that is appended (participant.assigned or participant.moved); a move's
        reason is the first sentence of the decision.
        """
        ...

    async def end(
        self,
        room: RoomId,
        participant: ParticipantId,
        *,
        epoch: int | None,
        reason: str,
        now: float,
    ) -> Assignment | None:
        """End the live assignment if its epoch is `epoch` (any for None); return it, or None if there was none."""
        ...

    async def put_topology(self, text: str, *, expect_version: int, now: float) -> int | None:
        """Store the YAML if the version is still `expect_version` (0 for none); return the new one or None."""
        ...

    # --- consistent reads -----------------------------------------------------------------------

    async def topology(self) -> StoredTopology | None:
        """Return the stored YAML."""
        ...

    async def room(self, room: RoomId) -> Room:
        """Return the room with its live assignments; an unknown room is empty."""
        ...

    async def sums(self, room: RoomId) -> Sums:
        """Return the room's live assignments summed up by node; costs nothing per participant."""
        ...

    async def rooms(self, *, after: RoomId | None, limit: int) -> Sequence[Room]:
        """Return up to `limit` rooms with ids above `after`, in order of id."""
        ...

    async def totals(self) -> Totals:
        """Return how much there is."""
        ...

    async def assignment(self, room: RoomId, participant: ParticipantId) -> Assignment | None:
        """Return the live assignment."""
        ...

    async def last_epoch(self, room: RoomId, participant: ParticipantId) -> int:
        """Return the highest epoch that the participant ever had here, 0 for one that this store never saw."""
        ...

    async def assignments_on(self, node: NodeId) -> Sequence[Assignment]:
        """Return the live assignments of a node."""
        ...

    async def expired(self, *, now: float, limit: int) -> Sequence[Assignment]:
        """Return up to `limit` live assignments whose lease is over."""
        ...

    # --- hints ----------------------------------------------------------------------------------

    async def put_node(self, node: Node) -> None:
        """Remember a node."""
        ...

    async def drop_node(self, node: NodeId) -> None:
        """Forget a node that was lost long ago, with its links."""
        ...

    async def nodes(self) -> Mapping[NodeId, Node]:
        """Return all remembered nodes."""
        ...

    async def note_sessions(
        self, node: NodeId, seen: Mapping[tuple[RoomId, ParticipantId], Assignment], *, now: float
    ) -> None:
        """Write back what a node reported of its participants: `tracks`, `live`, `expires_at` of each.

        Of their `rtts` only those that were measured in the call (source SESSION) are written, and none is removed:
        the client may have brought newer probes meanwhile. Entries whose epoch is no longer the live one are ignored.
        """
        ...

    async def put_links(self, node: NodeId, links: Sequence[LinkStatus]) -> None:
        """Replace what this node, as sender, said of its links."""
        ...

    async def links(self, room: RoomId) -> Sequence[LinkStatus]:
        """Return the reported links of a room."""
        ...

    async def learn(self, samples: Sequence[RttSample], *, now: float) -> None:
        """Take in round trips of live sessions; samples without a network, or that are no round trip, are ignored.

        They count by the rules of core/learned.py: one session, one vote. The store may forget the networks that were
        confirmed least recently.
        """
        ...

    async def learned(self, network: str, *, now: float) -> Mapping[RegionId, RttEstimate]:
        """Return what sessions of a network (as `network_of` writes it) taught, by region; empty if nothing did."""
        ...

    # --- events ---------------------------------------------------------------------------------

    async def append_event(self, type_: str, data: Mapping[str, object], *, now: float) -> Event:
        """Append an event that belongs to no atomic step, such as node.lost."""
        ...

    async def last_event_id(self) -> int:
        """Return the id of the newest event, 0 if there was none."""
        ...

    def events(self, *, after: int) -> AsyncIterator[Event]:
        """Yield events with ids above `after`, then wait for more, for ever.

        When events after `after` are no longer kept, the first one is `stream.reset`, whose data has
        `{"oldest": id}`: the reader has to load the state anew.
        """
        ...
