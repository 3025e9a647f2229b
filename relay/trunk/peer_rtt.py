"""Measures the round trip to other nodes: STUN Binding requests (RFC 8489) to their media ports.

The far end answers an unauthenticated request only when the answer is not larger, so requests are padded (RFC 5780,
section 7.6). The media port is asked and not the trunk, because most pairs of nodes have no trunk.
"""

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from relay.core import stun
from relay.core.recent import RecentMinimum
from relay.core.socket_filter import stun_only
from relay.transport.clock import monotonic
from relay.transport.udp import Address, UdpSocket
from relay.trunk.model import Peer, PeerRtt

INTERVAL_S = 1.0
"""Between two requests to a peer: 100 bytes a second each."""

SAMPLES = 5
"""The least of five is free of the queues that some met, and follows a new route within seconds."""

FORGET_S = 10.0
"""A peer that did not answer for so long has no round trip."""

REQUEST_BYTES = 64
"""As large as an answer with an IPv6 address and SOFTWARE."""


@dataclass(slots=True)
class _Measured:
    peer: Peer
    samples: RecentMinimum = field(default_factory=lambda: RecentMinimum(SAMPLES, FORGET_S))
    asked: tuple[bytes, float] | None = None
    """Transaction and time of the request that has no answer yet."""


class PeerRtts(UdpSocket):
    """Round trips to the peers of the last snapshot; `bind_host` is where to ask from."""

    def __init__(self, node: str, bind_host: str) -> None:
        super().__init__()
        self._node = node
        self._bind_host = bind_host
        self._measured: dict[str, _Measured] = {}
        self._asked: dict[bytes, _Measured] = {}

    def desired(self, peers: Iterable[Peer]) -> None:
        """Measure exactly these; what is known of a peer that moved is forgotten.

        A peer of the other IP version is passed over: uvloop raises when a socket is to send there.
        """
        wanted: dict[str, _Measured] = {}
        for peer in peers:
            if peer.media is None or peer.node == self._node:
                continue
            known = self._measured.get(peer.node)
            if known is not None and known.peer == peer:
                wanted[peer.node] = known
            elif ip_address(peer.media.host).version == ip_address(self._bind_host).version:
                wanted[peer.node] = _Measured(peer)
        self._measured = wanted

    def rtts(self) -> list[PeerRtt]:
        """Return what is known now."""
        now = monotonic()
        found = []
        for measured in self._measured.values():
            rtt_s = measured.samples.value(now)
            if rtt_s is not None:
                found.append(PeerRtt(measured.peer.node, measured.peer.region, rtt_s * 1000))
        return found

    async def run(self) -> None:
        """Ask all peers each second until cancelled. Raises OSError when no socket can be bound."""
        await self.open((self._bind_host, 0), stun_only(stun.BINDING_SUCCESS))
        try:
            while True:
                self._ask()
                await asyncio.sleep(INTERVAL_S)
        finally:
            self.close()

    # --- asyncio.DatagramProtocol ----------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Take an answer; anything else is dropped."""
        del addr
        now = monotonic()
        message = stun.parse(data)
        if message is None or message.kind != stun.BINDING_SUCCESS:
            return
        measured = self._asked.pop(message.transaction, None)
        if measured is not None and measured.asked is not None:
            transaction, asked_at = measured.asked
            if transaction == message.transaction:
                measured.samples.add(now - asked_at, now)

    # ---------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        self._asked.clear()  # an answer that took longer than a second is no measurement
        for measured in self._measured.values():
            media = measured.peer.media
            if media is None or self._transport is None:
                continue
            transaction = secrets.token_bytes(12)
            self._asked[transaction] = measured
            request = stun.binding_request(transaction, size=REQUEST_BYTES)
            measured.asked = (transaction, monotonic())
            self._transport.sendto(request, (media.host, media.port))
