"""Looking at rooms: who sits where, the cascade as wanted and as reported, and what it means in delay."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.core.cascade import plan
from controlplane.core.delay import room_delay
from controlplane.core.mesh import between
from controlplane.core.model import Assignment, LinkStatus, NodeId, RegionId, RoomId
from controlplane.core.session import LinkSpec
from controlplane.core.world import World
from controlplane.services.ports import Clock
from controlplane.services.world import Worlds
from controlplane.store.base import Store, Totals

MAX_PAGE = 1000
"""Rooms on a page: about 100 kB of JSON."""


@dataclass(frozen=True, slots=True)
class LinkView:
    """One link of a cascade: what is wanted, joined with what the sending node reports."""

    from_node: NodeId
    to_node: NodeId
    from_region: RegionId
    to_region: RegionId
    state: str
    """"wanted" (no report yet), "connecting", "up" or "down"."""
    tracks: tuple[str, ...]
    packets: int
    repaired: int
    lost: int
    rtt_ms: float | None
    """Round trip between the two regions as placement sees it."""


@dataclass(frozen=True, slots=True)
class RoomView:
    """A room, for people and programs."""

    id: RoomId
    participants: tuple[Assignment, ...]
    """In order of participant id."""
    links: tuple[LinkView, ...]
    mean_ms: float | None
    """Mean one-way delay over all pairs (publisher, receiver), estimated; None without a pair."""
    worst_ms: float | None


@dataclass(frozen=True, slots=True)
class RoomSummary:
    """One line of the list of rooms."""

    id: RoomId
    participants: int
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class RoomPage:
    """A part of the list of rooms."""

    rooms: Sequence[RoomSummary]
    next: RoomId | None
    """What `after` has to be for the next page; None on the last one."""


class Rooms:
    """Reads only."""

    def __init__(self, store: Store, worlds: Worlds, clock: Clock) -> None:
        self._store = store
        self._worlds = worlds
        self._clock = clock

    async def view(self, room: RoomId) -> RoomView:
        """Return the room; an unknown one is empty."""
        world = await self._worlds.load(now=self._clock.now())
        found = await self._store.room(room)
        people = tuple(found.assignments[who] for who in sorted(found.assignments))
        reported = {
            LinkSpec(one.room, one.from_node, one.to_node): one
            for one in await self._store.links(room)
        }
        links = tuple(
            _link_view(link, reported.get(link), world)
            for link in sorted(plan(room, await self._store.sums(room), world))
        )
        delay = room_delay(people, world.region_rtt)
        return RoomView(
            room, people, links, delay.mean_ms if delay else None, delay.worst_ms if delay else None
        )

    async def totals(self) -> Totals:
        """Return how many rooms and participants there are."""
        return await self._store.totals()

    async def page(
        self, *, after: RoomId | None = None, limit: int = 100, tenant: str | None = None
    ) -> RoomPage:
        """Return rooms with ids above `after`, in order, all or a tenant's; `limit` is kept within 1 to MAX_PAGE."""
        limit = max(1, min(limit, MAX_PAGE))
        # One more than asked for tells whether there is a next page.
        found = await self._store.rooms(after=after, limit=limit + 1, tenant=tenant)
        rooms = tuple(
            RoomSummary(
                room.id,
                len(room.assignments),
                tuple(sorted({one.node for one in room.assignments.values()})),
            )
            for room in found[:limit]
        )
        return RoomPage(rooms, rooms[-1].id if len(found) > limit else None)


def _link_view(link: LinkSpec, reported: LinkStatus | None, world: World) -> LinkView:
    here, there = world.nodes[link.from_node].region, world.nodes[link.to_node].region
    return LinkView(
        from_node=link.from_node,
        to_node=link.to_node,
        from_region=here,
        to_region=there,
        state=reported.state if reported else "wanted",
        tracks=reported.tracks if reported else (),
        packets=reported.packets if reported else 0,
        repaired=reported.repaired if reported else 0,
        lost=reported.lost if reported else 0,
        rtt_ms=between(world.region_rtt, here, there),
    )
