"""What a room costs a newcomer: the delay to the people it would exchange media with, from any region."""

from collections.abc import Mapping

from controlplane.core.delay import SFU_MS
from controlplane.core.mesh import Pair, between
from controlplane.core.model import RegionId, Role
from controlplane.core.sums import Group, Sums


class Peers:
    """The people whom the newcomer exchanges media with, summed up by region."""

    def __init__(self, role: Role, others: Sums) -> None:
        self._viewers_too = role is Role.PUBLISHER  # two viewers have nothing for one another
        self.people: dict[RegionId, int] = {}
        """How many people sit in each region, whether or not the newcomer has media for them."""
        by_region: dict[RegionId, int] = {}
        count = access_us = 0
        for group in others.values():
            region, here, us = group.region, group.publishers, group.publisher_us
            everybody = here + group.viewers
            self.people[region] = self.people.get(region, 0) + everybody
            if self._viewers_too:
                here = everybody
                us += group.viewer_us
            if here:
                by_region[region] = by_region.get(region, 0) + here
                count += here
                access_us += us
        self._by_region = sorted(by_region.items())
        self._count = count
        self._access_ms = access_us / 1000

    def mean_access(self, access: float) -> float:
        """Return the mean access round trip over the pairs (newcomer, peer)."""
        return (access + self._access_ms / self._count) / 2 if self._count else access

    def delay_ms(self, region: RegionId, access: float, rtts: Mapping[Pair, float]) -> float:
        """Return the mean one-way delay to the peers from a node of the region that carries none of them."""
        if not self._count:
            # Nobody to exchange media with yet; a node that carries the room saves the hop that will come.
            return access / 2 + SFU_MS * (1 + bool(self.people))
        links = 0.0
        for other, count in self._by_region:
            link = rtts.get((region, other))
            links += count * (between(rtts, region, other) if link is None else link)
        return (access + (links + self._access_ms) / self._count) / 2 + 2 * SFU_MS

    def delay_beside_ms(self, group: Group, apart: float, rtts: Mapping[Pair, float]) -> float:
        """Return what `apart` becomes on the very node of this group: no link and one SFU less to each of them."""
        if not self._count:
            return apart - SFU_MS
        here = group.count if self._viewers_too else group.publishers
        link = between(rtts, group.region, group.region)
        return apart - here * (link / 2 + SFU_MS) / self._count
