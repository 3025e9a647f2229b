"""All trunks of a node: which are wanted, what was opened, and who calls whom.

`desired` takes the whole wish of a snapshot; everything else follows from it in the next tick. Of a pair, the node
with the smaller id calls, so that two nodes never open two trunks at the same time. Tasks are runner.py's business.
"""

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping

from relay.core.rooms import Rooms
from relay.transport.clock import monotonic, wall
from relay.trunk.model import (
    Endpoint,
    Link,
    LinkStatus,
    OpenCall,
    Peer,
    TrunkError,
    TrunkState,
)
from relay.trunk.trunk import Trunk, TrunkSession
from relay.trunk.udp import KEY_BYTES, Carrier, TrunkSocket

REPORT_INTERVAL_S = 1.0
"""Between sender and receiver reports of a trunk."""

IDLE_S = 5.0
"""A trunk without links is closed after this: two snapshots in a row may move a room away and back, and the
snapshot of the far end may be a little older than ours."""

CLAIM_S = 5.0
"""From Open to Signal. The same deadline as the caller's for Open, so that no side waits for nothing."""


class TrunkManager:
    """The trunks of this node. `advertise` is where others send to; its default is where the socket is bound."""

    def __init__(self, node: str, rooms: Rooms, *, advertise: Endpoint | None = None) -> None:
        self.node = node
        self.socket = TrunkSocket()
        self.trunks: dict[str, Trunk] = {}
        """By node."""
        self.stopping = False
        """Nobody is called any more."""
        self._rooms = rooms
        self._advertise = advertise
        self._links: frozenset[Link] = frozenset()
        self._peers: Mapping[str, Peer] = {}
        self._wish_changed = False
        self._changed_rooms: set[str] = set()
        self._report_at = 0.0
        self._generation = 0
        rooms.watch(self._changed_rooms.add)

    @property
    def endpoint(self) -> Endpoint:
        """Where this node receives trunk packets; a port of 0 stands for the one that was bound."""
        local = self.socket.local
        if self._advertise is None:
            return local
        return Endpoint(self._advertise.host, self._advertise.port or local.port)

    def desired(self, links: Iterable[Link], peers: Iterable[Peer]) -> None:
        """Hold exactly these links. Every link has this node at one end and one of the peers at the other."""
        self._links = frozenset(links)
        self._peers = {peer.node: peer for peer in peers}
        self._wish_changed = True

    def links(self) -> list[LinkStatus]:
        """Return how every link from this node is doing."""
        return [status for trunk in self.trunks.values() for status in trunk.statuses()]

    def states(self) -> Mapping[TrunkState, int]:
        """Return how many trunks are in each state."""
        return Counter(trunk.state for trunk in self.trunks.values())

    def is_peer(self, node: str, region: str) -> bool:
        """Return whether the last wish names this node of this region, to hold links with or to measure."""
        peer = self._peers.get(node)
        return peer is not None and peer.region == region

    def target(self, trunk: Trunk) -> str | None:
        """Return where this node has to call the far end of this trunk, or None if it has not."""
        if self.stopping or self.trunks.get(trunk.peer) is not trunk:
            return None
        if trunk.peer <= self.node or not trunk.linked:
            return None
        peer = self._peers.get(trunk.peer)
        return None if peer is None else peer.trunk_target

    def tick(self, now: float) -> None:
        """Do what the wish, the rooms and the time demand; call it every 10 ms."""
        if self._wish_changed:
            self._wish_changed = False
            self._follow_wish(now)
        self._follow_rooms(now)
        for trunk in self.trunks.values():
            trunk.tick(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL_S
            self._keep_house(now)
            for trunk in self.trunks.values():
                trunk.report(now)

    def close(self) -> None:
        """End every trunk."""
        for trunk in self.trunks.values():
            trunk.close("this node stops")
        self.trunks.clear()

    # --- opening ---------------------------------------------------------------------------------

    def next_generation(self) -> int:
        """Return a number above every one before, of the process before this one too unless the clock was set back."""
        self._generation = max(self._generation + 1, int(wall() * 1000))
        return self._generation

    def offer(self) -> OpenCall:
        """Return this end of a new trunk, with a fresh key."""
        return OpenCall(self.endpoint, secrets.token_bytes(KEY_BYTES))

    def opened(
        self, trunk: Trunk, ours: OpenCall, theirs: OpenCall, generation: int
    ) -> TrunkSession:
        """Make a session of what both ends said; it takes the place of the trunk's session before.

        Raises ValueError when the addresses do not fit each other.
        """
        carrier = Carrier(
            self.socket,
            trunk,
            theirs.endpoint,
            send_key=ours.send_key,
            receive_key=theirs.send_key,
        )
        session = TrunkSession(generation, carrier, monotonic())
        trunk.begin(session)
        return session

    def answer(self, peer: str, theirs: OpenCall, generation: int) -> tuple[str, OpenCall]:
        """Take a call from a node; return the session's id and this end of it.

        Links to that node may be in a snapshot that has not come yet: a trunk without links is kept for IDLE_S.
        Raises `TrunkError` for an older generation than the session that is in place, ValueError as `opened`.
        """
        trunk = self.trunks.get(peer)
        if trunk is None:
            trunk = self._add(peer)
            trunk.idle_since = monotonic()
            self._wish_changed = True
        if trunk.session is not None and generation < trunk.session.generation:
            raise TrunkError(
                f"generation {generation} is older than {trunk.session.generation}, which is in place"
            )
        ours = self.offer()
        return self.opened(trunk, ours, theirs, generation).id, ours

    def claim(self, peer: str, session_id: str) -> tuple[Trunk, TrunkSession] | None:
        """Return the trunk and the session that a node wants to talk over, or None if it is not the current one."""
        trunk = self.trunks.get(peer)
        session = trunk.session if trunk else None
        if trunk is None or session is None or session.id != session_id or session.claimed:
            return None
        return trunk, session

    # ---------------------------------------------------------------------------------------------

    def _add(self, peer: str) -> Trunk:
        trunk = self.trunks[peer] = Trunk(self.node, peer, self._rooms, self.socket.counters)
        return trunk

    def _follow_wish(self, now: float) -> None:
        outgoing: dict[str, set[str]] = {}
        incoming: dict[str, set[str]] = {}
        for link in self._links:
            if link.from_node == self.node:
                outgoing.setdefault(link.to_node, set()).add(link.room)
            else:
                incoming.setdefault(link.from_node, set()).add(link.room)
        for peer in outgoing.keys() | incoming.keys():
            if peer not in self.trunks:
                self._add(peer)
        for peer, trunk in self.trunks.items():
            trunk.link(frozenset(outgoing.get(peer, ())), frozenset(incoming.get(peer, ())), now)

    def _follow_rooms(self, now: float) -> None:
        if not self._changed_rooms:
            return
        changed = list(self._changed_rooms)
        self._changed_rooms.clear()
        for room in changed:
            for trunk in self.trunks.values():
                trunk.sender.room_changed(room, now)
                trunk.receiver.room_changed(room)

    def _keep_house(self, now: float) -> None:
        for peer, trunk in list(self.trunks.items()):
            session = trunk.session
            if session is not None and not session.claimed and now - session.opened_at > CLAIM_S:
                trunk.drop("opened, but nobody talked over it")
            if trunk.idle_since is not None and now - trunk.idle_since > IDLE_S:
                trunk.close("no link needs it")
                del self.trunks[peer]
