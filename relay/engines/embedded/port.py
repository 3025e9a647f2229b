"""The one UDP port of the process: tells STUN, DTLS and SRTP apart (RFC 7983) and finds the session.

Whatever is not from a session's client is dropped without a word: a log line per packet would be a gift to
whoever sends junk. Counters tell how much there is.
"""

from dataclasses import dataclass

from guard.buckets import AddressBuckets
from relay.core import stun
from relay.core.addresses import parse_address
from relay.engines.embedded import ice_lite
from relay.engines.embedded.peer import Address, Peer
from relay.transport.clock import monotonic
from relay.transport.udp import UdpSocket

MAX_ADDRESSES = 8
"""Addresses that one session may send from: a client checks every pair of candidates."""

PROBES_PER_S = 200.0
"""Of one address. The other nodes of a fleet ask once a second each, and those of one region share an address or a /64;
clients come on top. It costs less than a hundredth of a core."""

PROBE_BURST = 2000
"""Hundreds of clients behind one carrier-grade NAT that measure at once, with four to six requests each."""

CHECKS_PER_S = 200.0
"""Of one address, from ports that no session is known to use, and with a user name of ours: an HMAC each."""

CHECK_BURST = 2000
"""The same clients when their calls begin, with a few checks each."""


@dataclass(slots=True)
class PortCounters:
    """Datagrams since the start."""

    received: int = 0
    sent: int = 0
    stray: int = 0
    """Neither a check that authenticates nor from a known client."""
    rejected: int = 0
    """Of sessions that ended: packets that did not authenticate, or were of too many streams."""
    probes_answered: int = 0
    """Binding requests without credentials."""
    probes_limited: int = 0
    """Those beyond what one address may ask for."""
    checks_limited: int = 0
    """Checks from unknown ports beyond what one address may try."""


class Port(UdpSocket):
    """Demultiplexes the datagrams of all sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = PortCounters()
        self._by_ufrag: dict[str, Peer] = {}
        self._by_address: dict[Address, Peer] = {}
        self._addresses: dict[str, list[Address]] = {}
        self._probes = AddressBuckets(PROBES_PER_S, PROBE_BURST)
        self._checks = AddressBuckets(CHECKS_PER_S, CHECK_BURST)

    @property
    def rejected(self) -> int:
        """Packets that came in the name of a client and did not authenticate, since the start."""
        return self.counters.rejected + sum(
            peer.rejected_packets for peer in self._by_ufrag.values()
        )

    def add(self, peer: Peer) -> None:
        """Expect checks for this peer."""
        self._by_ufrag[peer.ufrag] = peer
        self._addresses[peer.ufrag] = []

    def remove(self, peer: Peer) -> None:
        """Take nothing more for this peer."""
        if self._by_ufrag.pop(peer.ufrag, None) is not None:
            self.counters.rejected += peer.rejected_packets
        for address in self._addresses.pop(peer.ufrag, []):
            if self._by_address.get(address) is peer:
                del self._by_address[address]
        self.expect(self._by_address)

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
        now = monotonic()
        message = stun.parse(data)
        if message is not None and message.kind == stun.BINDING_REQUEST:
            self._request(message, source, now)
        elif message is None or not self._answered(message, source, now):
            self.counters.stray += 1

    def _answered(self, message: stun.Message, source: Address, now: float) -> bool:
        peer = self._by_address.get(source)
        return (
            message.kind == stun.BINDING_SUCCESS
            and peer is not None
            and peer.answered(message, now)
        )

    def _request(self, request: stun.Message, source: Address, now: float) -> None:
        """Answer a check or a probe; within an address's budget, before anything is computed for it."""
        peer = self._by_ufrag.get(ice_lite.local_ufrag(request))
        if peer is None:
            self._probe(request, source, now)
        elif source in self._by_address or self._checks.passes(parse_address(source[0]), now):
            self._check(peer, request, source, now)
        else:
            self.counters.checks_limited += 1

    def _check(self, peer: Peer, request: stun.Message, source: Address, now: float) -> None:
        checked = ice_lite.check(request, source, peer.pwd)
        if checked is None:
            self.counters.stray += 1
            return
        self._remember(peer, source)
        self.send(checked.response, source)
        peer.checked(source, nominated=checked.nominated, now=now)

    def _probe(self, request: stun.Message, source: Address, now: float) -> None:
        if stun.USERNAME in request.attributes:  # a check, for nobody here
            self.counters.stray += 1
        elif not self._probes.passes(parse_address(source[0]), now):
            self.counters.probes_limited += 1
        elif (answer := ice_lite.answer_probe(request, source)) is None:
            self.counters.stray += 1
        else:
            self.counters.probes_answered += 1
            self.send(answer, source)

    def _remember(self, peer: Peer, source: Address) -> None:
        addresses = self._addresses[peer.ufrag]
        if source in addresses:
            addresses.remove(source)
        elif len(addresses) >= MAX_ADDRESSES:
            oldest = addresses.pop(0)
            if self._by_address.get(oldest) is peer:
                del self._by_address[oldest]
        addresses.append(source)
        is_new = source not in self._by_address
        self._by_address[source] = peer
        if is_new:
            self.expect(self._by_address)
