"""The one UDP port of the process: tells STUN, DTLS and SRTP apart (RFC 7983) and finds the session.

Whatever is not from a session's client is dropped without a word: a log line per packet would be a gift to
whoever sends junk. Counters tell how much there is.
"""

from dataclasses import dataclass

from relay.core import stun
from relay.engines.embedded import ice_lite
from relay.engines.embedded.peer import Address, Peer
from relay.transport.clock import monotonic
from relay.transport.udp import UdpSocket

MAX_ADDRESSES = 8
"""Addresses that one session may send from: a client checks every pair of candidates."""


@dataclass(slots=True)
class PortCounters:
    """Datagrams since the start."""

    received: int = 0
    sent: int = 0
    stray: int = 0
    """Neither a check that authenticates nor from a known client."""


class Port(UdpSocket):
    """Demultiplexes the datagrams of all sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = PortCounters()
        self._by_ufrag: dict[str, Peer] = {}
        self._by_address: dict[Address, Peer] = {}
        self._addresses: dict[str, list[Address]] = {}

    def add(self, peer: Peer) -> None:
        """Expect checks for this peer."""
        self._by_ufrag[peer.ufrag] = peer
        self._addresses[peer.ufrag] = []

    def remove(self, peer: Peer) -> None:
        """Take nothing more for this peer."""
        self._by_ufrag.pop(peer.ufrag, None)
        for address in self._addresses.pop(peer.ufrag, []):
            if self._by_address.get(address) is peer:
                del self._by_address[address]

    def send(self, datagram: bytes, address: Address) -> None:
        """Send, if the port is open."""
        if self._transport is not None:
            self.counters.sent += 1
            self._transport.sendto(datagram, address)

    # --- asyncio.DatagramProtocol ----------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Pass a datagram to its session."""
        self.counters.received += 1
        if len(data) < 12:
            self.counters.stray += 1
            return
        first = data[0]
        if first < 4:
            self._stun(data, (addr[0], addr[1]))
            return
        peer = self._by_address.get((addr[0], addr[1]))
        if peer is None:
            self.counters.stray += 1
        elif 128 <= first <= 191:
            peer.media(data, monotonic())
        elif 20 <= first <= 63:
            peer.dtls(data, monotonic())

    def _stun(self, data: bytes, source: Address) -> None:
        request = stun.parse(data)
        if request is None or request.kind != stun.BINDING_REQUEST:
            self.counters.stray += 1
            return
        checked = ice_lite.check(request, source, self._password)
        if checked is None:
            answer = ice_lite.answer_probe(request, source)
            if answer is None:
                self.counters.stray += 1
            else:
                self.send(answer, source)
            return
        peer = self._by_ufrag[checked.ufrag]
        self._remember(peer, source)
        self.send(checked.response, source)
        peer.checked(source, nominated=checked.nominated, now=monotonic())

    def _password(self, ufrag: str) -> str | None:
        peer = self._by_ufrag.get(ufrag)
        return None if peer is None else peer.pwd

    def _remember(self, peer: Peer, source: Address) -> None:
        addresses = self._addresses[peer.ufrag]
        if source in addresses:
            addresses.remove(source)
        elif len(addresses) >= MAX_ADDRESSES:
            oldest = addresses.pop(0)
            if self._by_address.get(oldest) is peer:
                del self._by_address[oldest]
        addresses.append(source)
        self._by_address[source] = peer
