"""What the TURN servers beside the nodes have to know, so that neither this process nor the store is in TURN's path."""

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.core.model import Node, Region, RegionId
from controlplane.core.session import TurnOrders
from controlplane.core.turn import TurnMasters, turn_orders
from controlplane.services.ports import TurnKeeper
from controlplane.services.topologies import Topologies

HOSTS_AGE_S = 1.0
"""Who is where is gathered at most this often, unless a new node asks: of a thousand nodes each asks every 5 s."""


@dataclass(frozen=True, slots=True)
class _Made:
    """Orders, and what they were made of."""

    region: Region
    masters: TurnMasters
    orders: TurnOrders


class TurnServers:
    """Orders for each node's TURN server; the same object while they are the same."""

    def __init__(self, topologies: Topologies, keeper: TurnKeeper) -> None:
        self._topologies = topologies
        self._keeper = keeper
        self._hosts: dict[RegionId, set[str]] = {}
        self._gathered_at = 0.0
        self._made: dict[RegionId, _Made] = {}
        self._stale: set[RegionId] = set()

    async def orders(self, node: Node, nodes: Iterable[Node], now: float) -> TurnOrders | None:
        """Return what a TURN server beside `node` has to know; None when its region declares none."""
        topology = (await self._topologies.current()).topology
        region = topology.regions.get(node.region)
        if region is None or not region.turn_servers:
            return None
        is_new = node.media_host not in self._hosts.get(node.region, ())
        if is_new or abs(now - self._gathered_at) >= HOSTS_AGE_S:
            self._gather(nodes, now)
        masters, made = self._keeper.masters(), self._made.get(region.id)
        if (
            made is None
            or region.id in self._stale
            or made.region is not region
            or made.masters is not masters
        ):
            fresh = turn_orders(masters, region, self._hosts.get(region.id, ()), now)
            known = fresh if made is None or made.orders != fresh else made.orders
            made = self._made[region.id] = _Made(region, masters, known)
            self._stale.discard(region.id)
        return made.orders

    def _gather(self, nodes: Iterable[Node], now: float) -> None:
        self._hosts = {}
        for node in nodes:
            self._hosts.setdefault(node.region, set()).add(node.media_host)
        self._gathered_at = now
        self._stale = set(self._hosts)
