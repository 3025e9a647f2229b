"""Which replica does what. Rooms and nodes belong to the live replicas by rendezvous hashing; there is no leader.

Any replica may admit anybody. What one of them has to see to, and two should not do at the same time, is a duty: better
places in a room, leases that end, nodes whose own replica is gone. Duties that two replicas hold for a moment, while
one of them does not know yet that another came or went, do no harm: whoever is faster at the store wins.
"""

from collections.abc import Mapping

from controlplane.core.model import Node, Replica
from controlplane.core.rendezvous import owner
from controlplane.store.base import Store


class Duties:
    """The live replicas as of the last `refresh`; just this one before."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._replicas: Mapping[str, Replica] = {}

    async def refresh(self) -> None:
        """Look which replicas live. Call about 4 times a second."""
        self._replicas = await self._store.replicas()

    @property
    def me(self) -> str:
        """The id of this replica."""
        return self._store.replica

    @property
    def is_alone(self) -> bool:
        """Whether no other replica is known."""
        return self._replicas.keys() <= {self.me}

    @property
    def targets(self) -> tuple[str, ...]:
        """Where nodes reach the live replicas, as host:port."""
        return tuple(sorted({one.target for one in self._replicas.values() if one.target}))

    def is_mine(self, key: str) -> bool:
        """Return whether a room's duties are this replica's."""
        return self.is_alone or owner(key, {*self._replicas, self.me}) == self.me

    def judges(self, node: Node) -> bool:
        """Return whether this replica says when the node is lost.

        The one that hears a node does. When that one is gone, another takes over.
        """
        if node.replica == self.me:
            return True
        return node.replica not in self._replicas and self.is_mine(node.id)
