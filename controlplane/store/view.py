"""Who sits where, in memory, in the orders in which it is asked for; every store answers its reads from one.

Everything is bounded by who is there, except the epochs of people who left: those by MAX_LEFT.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush, nsmallest
from types import MappingProxyType

from controlplane.core.big_dict import BigDict
from controlplane.core.identity import tenant_of
from controlplane.core.model import Assignment, NodeId, ParticipantId, Role, Room, RoomId
from controlplane.core.sums import NOBODY, Sums, access_us, adding, without

MAX_LEFT = 100_000
"""Participants who left and whose epochs are remembered one by one."""

Key = tuple[RoomId, ParticipantId]


def key_of(assignment: Assignment) -> Key:
    """Return whose assignment it is."""
    return assignment.room, assignment.participant


class View:
    """Live assignments, and the epochs of those who left."""

    def __init__(self) -> None:
        self._rooms: dict[RoomId, dict[ParticipantId, Assignment]] = {}
        self._sums: dict[RoomId, Sums] = {}
        self._on_node: dict[NodeId, BigDict[Key, None]] = {}
        self._told_of_node: dict[NodeId, Sequence[Assignment]] = {}
        """What was told last of a node's people, as long as it holds: every report asks, few change anything."""
        self._left: OrderedDict[Key, int] = OrderedDict()
        self._leases: list[tuple[float, Key]] = []
        self._looked_at: BigDict[Key, float] = BigDict()
        """When the lease of each is looked at next, which is never behind its end: one entry in the heap counts."""
        self.forgotten = 0
        """The highest epoch among those that were forgotten."""

    def __len__(self) -> int:
        """Return how many live assignments there are."""
        return len(self._looked_at)

    def __iter__(self) -> Iterator[Assignment]:
        return (one for people in self._rooms.values() for one in people.values())

    @property
    def room_count(self) -> int:
        """Rooms with a live assignment."""
        return len(self._rooms)

    # --- reading --------------------------------------------------------------------------------

    def live(self, key: Key) -> Assignment | None:
        """Return the live assignment."""
        people = self._rooms.get(key[0])
        return None if people is None else people.get(key[1])

    def last_epoch(self, key: Key) -> int:
        """Return the highest epoch that is known, 0 for none."""
        live = self.live(key)
        return live.epoch if live else self._left.get(key, 0)

    def room(self, room: RoomId) -> Room:
        """Return the room as it is now."""
        return Room(room, MappingProxyType(dict(self._rooms.get(room, {}))))

    def rooms(
        self, *, after: RoomId | None, limit: int, tenant: str | None = None
    ) -> Sequence[Room]:
        """Return up to `limit` rooms with ids above `after`, in order of id; only those of `tenant` if it is given."""
        later = (
            room
            for room in self._rooms
            if (after is None or room > after) and (tenant is None or tenant_of(room) == tenant)
        )
        return [self.room(room) for room in nsmallest(limit, later)]

    def sums(self, room: RoomId) -> Sums:
        """Return the room's sums."""
        return self._sums.get(room, NOBODY)

    def count_on(self, node: NodeId) -> int:
        """Return how many live assignments a node has."""
        return len(self._on_node.get(node, ()))

    def on_node(self, node: NodeId) -> Sequence[Assignment]:
        """Return the live assignments of a node."""
        told = self._told_of_node.get(node)
        if told is None:
            told = tuple([self._rooms[room][who] for room, who in self._on_node.get(node, {})])
            if told:
                self._told_of_node[node] = told
        return told

    def expired(self, *, now: float, limit: int) -> Sequence[Assignment]:
        """Return up to `limit` live assignments whose lease is over; costs only what is due."""
        over: list[Assignment] = []
        while len(over) < limit and self._leases and self._leases[0][0] <= now:
            at, key = heappop(self._leases)
            if self._looked_at.get(key) != at:
                continue
            live = self._rooms[key[0]][key[1]]
            if live.expires_at <= now:
                over.append(live)
            else:
                self._look_again(live)
        for one in over:
            self._look_again(one)
        return over

    # --- writing --------------------------------------------------------------------------------

    def put(self, assignment: Assignment) -> None:
        """Put an assignment in force, in the place of the participant's own."""
        key = room, who = key_of(assignment)
        before = self.live(key)
        if before is not None and before.node != assignment.node:
            self._leave_node(before, key)
        if before is None:
            self._left.pop(key, None)
        self._rooms.setdefault(room, {})[who] = assignment
        self._on_node.setdefault(assignment.node, BigDict())[key] = None
        self._told_of_node.pop(assignment.node, None)
        if before is None or _weight(before) != _weight(assignment):
            self._sums[room] = adding(without(self._sums.get(room, NOBODY), before), assignment)
        looked_at = self._looked_at.get(key)
        if looked_at is None or assignment.expires_at < looked_at:
            self._look_again(assignment)

    def end(self, key: Key, epoch: int) -> Assignment | None:
        """Remember that everything up to `epoch` has ended; return the live assignment if that was one of it."""
        live = self.live(key)
        if live is not None and live.epoch > epoch:
            return None
        if live is not None:
            self._remove(live, key)
        self._left[key] = max(epoch, self._left.get(key, 0))
        self._left.move_to_end(key)
        if len(self._left) > MAX_LEFT:
            _, forgotten = self._left.popitem(last=False)
            self.forgotten = max(self.forgotten, forgotten)
        return live

    # --- inside ---------------------------------------------------------------------------------

    def _remove(self, live: Assignment, key: Key) -> None:
        room, who = key
        people = self._rooms[room]
        del people[who], self._looked_at[key]
        self._sums[room] = without(self._sums[room], live)
        if not people:
            del self._rooms[room], self._sums[room]
        self._leave_node(live, key)

    def _leave_node(self, live: Assignment, key: Key) -> None:
        here = self._on_node[live.node]
        self._told_of_node.pop(live.node, None)
        del here[key]
        if not here:
            del self._on_node[live.node]

    def _look_again(self, assignment: Assignment) -> None:
        key = key_of(assignment)
        self._looked_at[key] = assignment.expires_at
        heappush(self._leases, (assignment.expires_at, key))


def _weight(assignment: Assignment) -> tuple[NodeId, Role, int]:
    """Return what an assignment counts for in its room's sums."""
    return assignment.node, assignment.role, access_us(assignment)
