"""The state that replicas share, behind one protocol.

Methods are grouped by what they guarantee; a new store starts from this docstring:

- **Atomic**: `admit`, `end`, `put_topology`, `take_join_token`. Each is one indivisible step over all replicas. The
  loser of a race is told (`Conflict`), never silently overwritten. Nothing is check-then-set.
- **Reads**: `room`, `sums`, `assignment`, `rooms`, `topology`, `drains` see every step that this replica took before,
  and those of other replicas a moment later. What was decided on an old view loses at `admit`.
- **Hints**: nodes, link reports, learned round trips. Last writer wins, they may be a report old; the node itself is
  the authority for admission.
- **Events**: appended by the atomic steps themselves, so that no change is without its event; in order for each room;
  kept for a bounded number, resumable by id at any replica.

Epochs of a participant only grow, across leave and join too, and whatever becomes of the store behind.

A store that replicas share may be out of reach. Then reads, joins, leaves and hints go on from what this replica knows
and are brought together later: of two assignments the one with the higher epoch stands. What only operators change
(topology, drains, join tokens) is refused with UnavailableError ("state-unavailable").
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from controlplane.core.learned import RttSample
from controlplane.core.model import (
    Assignment,
    Drain,
    Event,
    LinkStatus,
    Node,
    NodeId,
    ParticipantId,
    RegionId,
    Replica,
    Room,
    RoomId,
    RttEstimate,
)
from controlplane.core.session import LinkFigures, LinkReport
from controlplane.core.sums import Sums
from controlplane.errors import UnavailableError

MAX_JOIN_TOKENS = 10_000
"""Join tokens that wait to be used: a thousand nodes at once need a tenth of it."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The assignment is in force."""

    assignment: Assignment
    created: bool
    """False when the same session already had one: that one is returned."""
    degraded: bool = False
    """It is known to this replica, and not (or not safely) to the others yet."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody else was faster; `current` is what is true now."""

    current: Assignment | None
    full: NodeId | None = None
    """The proposal's node, when it is its places that others took."""


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is."""

    rooms: int
    """Rooms with a live assignment."""
    assignments: int
    networks: int
    """Client networks whose round trips are known."""
    events: int
    """Events that this process saw since it began."""


@dataclass(frozen=True, slots=True)
class StoredTopology:
    """The operators' YAML as they wrote it, with its version."""

    version: int
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """What another replica did to one participant; both are of the same participant."""

    before: Assignment | None
    after: Assignment | None


Listener = Callable[[Change], None]


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Whether replicas share what they know."""

    mode: Literal["normal", "degraded"]
    since: float
    """When this mode began."""
    why: str = ""
    """What is wrong, for people; empty in normal mode."""
    pending: int = 0
    """Changes that the other replicas cannot know yet."""


def too_many_tokens() -> UnavailableError:
    """Return the error of `put_join_token` when MAX_JOIN_TOKENS wait."""
    return UnavailableError(
        "too-many-join-tokens",
        f"{MAX_JOIN_TOKENS} join tokens wait to be used.",
        "Let some be used or expire.",
        retry_after_s=60,
    )


def out_of_reach(what: str) -> UnavailableError:
    """Return the error of what only operators change, while the shared state is out of reach."""
    return UnavailableError(
        "state-unavailable",
        f"{what} cannot be changed now: this replica does not reach the state that all share.",
        "Joins and calls go on. Look at Redis, then try again.",
    )


class Store(Protocol):
    """See the module's docstring for what each group guarantees."""

    @property
    def replica(self) -> str:
        """The id of this replica."""
        ...

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

        A node of which the store knows gets at most as many assignments as its capacity; one more gives `Conflict`,
        with `full`. A proposal that is `live` is never refused so: its node has let it in already.

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
        if_expired: bool = False,
    ) -> Assignment | None:
        """End the live assignment if its epoch is `epoch` (any for None); return it, or None if there was none.

        With `if_expired` only when its lease is over, too: another replica may just have pushed it.
        """
        ...

    async def put_topology(self, text: str, *, expect_version: int, now: float) -> int | None:
        """Store the YAML if the version is still `expect_version` (0 for none); return the new one or None."""
        ...

    async def put_join_token(
        self, id_: str, digest: str, data: str, *, ttl_s: float, now: float
    ) -> None:
        """Keep a one-time token for `ttl_s` seconds: the digest of its secret, and what it is good for.

        Raises UnavailableError ("too-many-join-tokens").
        """
        ...

    async def take_join_token(self, id_: str, digest: str, *, now: float) -> str | None:
        """Use a token up and return its data; None if it is unknown, expired or used, or the digest is another.

        A wrong digest leaves the token as it is: who guesses takes nothing away.
        """
        ...

    # --- reads ----------------------------------------------------------------------------------

    async def topology(self) -> StoredTopology | None:
        """Return the stored YAML."""
        ...

    async def room(self, room: RoomId) -> Room:
        """Return the room with its live assignments; an unknown room is empty."""
        ...

    async def sums(self, room: RoomId) -> Sums:
        """Return the room's live assignments summed up by node; costs nothing per participant."""
        ...

    async def rooms(
        self, *, after: RoomId | None, limit: int, tenant: str | None = None
    ) -> Sequence[Room]:
        """Return up to `limit` rooms with ids above `after`, in order of id; only those of `tenant` if it is given."""
        ...

    async def totals(self) -> Totals:
        """Return how much there is."""
        ...

    async def assignment(self, room: RoomId, participant: ParticipantId) -> Assignment | None:
        """Return the live assignment."""
        ...

    async def last_epoch(self, room: RoomId, participant: ParticipantId) -> int:
        """Return the highest epoch that is known of the participant, 0 for one that this store never saw."""
        ...

    async def assignments_on(self, node: NodeId) -> Sequence[Assignment]:
        """Return the live assignments of a node."""
        ...

    async def expired(self, *, now: float, limit: int) -> Sequence[Assignment]:
        """Return up to `limit` live assignments whose lease is over."""
        ...

    async def drains(self) -> Mapping[NodeId, Drain]:
        """Return what operators want of nodes."""
        ...

    async def put_drain(self, node: NodeId, drain: Drain) -> None:
        """Remember what an operator wants of a node; replaces what was wanted before."""
        ...

    async def drop_drain(self, node: NodeId) -> None:
        """Forget it; a no-op when there is none."""
        ...

    # --- replicas -------------------------------------------------------------------------------

    async def announce(self, target: str, *, now: float) -> None:
        """Say where nodes reach this replica's gRPC server, as host:port."""
        ...

    async def replicas(self) -> Mapping[str, Replica]:
        """Return the replicas that are alive, this one among them, by id."""
        ...

    def watch(self, listener: Listener) -> None:
        """Have `listener` called with every assignment that another replica changed; it must not raise or block."""
        ...

    async def health(self) -> StoreHealth:
        """Return whether this replica and the others share what they know."""
        ...

    # --- hints ----------------------------------------------------------------------------------

    async def put_node(self, node: Node) -> None:
        """Remember a node."""
        ...

    async def drop_node(self, node: NodeId) -> None:
        """Forget a node that was lost long ago, with its links and its drain."""
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

    async def put_links(
        self, node: NodeId, links: Sequence[LinkReport], figures: LinkFigures
    ) -> None:
        """Replace what this node, as sender, said of its links; quick when `links` is the object of before."""
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

    async def append_event(self, type_: str, data: Mapping[str, object], *, now: float) -> None:
        """Append an event that belongs to no atomic step, such as node.lost."""
        ...

    async def last_event_id(self) -> str:
        """Return where the log is: `events` after this id yields what happens next."""
        ...

    def events(self, *, after: str) -> AsyncIterator[Event]:
        """Yield the events behind the one with the id `after` ("" for all that are kept), then wait for more, for ever.

        When events after `after` are no longer kept, or `after` is no id of this log, the first one is `stream.reset`,
        whose data has `{"oldest": id}`: the reader has to load the state anew.
        """
        ...
