"""The one UDP socket that all trunks of a process share, and the keys of each trunk on it.

A datagram belongs to the trunk whose far end has its source address, and only if it authenticates under that
trunk's key (RFC 7714). A far end may send from another address than it receives at (several interfaces, a NAT):
such a source is tried against every key, at a bounded rate, and remembered when one fits. Nothing is ever sent
there. Anything else is counted and dropped without a word: a log line per packet would be a gift to whoever sends
junk.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from guard.buckets import TokenBucket
from relay.core.rtp import is_rtcp
from relay.transport.clock import monotonic
from relay.transport.srtp import Profile, SrtpContext, SrtpError
from relay.transport.udp import Address, UdpSocket
from relay.trunk.model import Endpoint

PROFILE = Profile.AEAD_AES_256_GCM
KEY_BYTES = PROFILE.key_bytes + PROFILE.salt_bytes

UNKNOWN_PER_S = 200.0
"""Datagrams from unknown sources whose keys are looked for; each costs 2 µs for every trunk."""

MAX_SOURCES = 8
"""Addresses that one far end may send from."""


@dataclass(slots=True)
class TrunkCounters:
    """Of all trunks, since the start: datagrams, and what they carried."""

    received: int = 0
    sent: int = 0
    stray: int = 0
    """From nobody known, and under no trunk's key."""
    forged: int = 0
    """From a far end's address, but not under its key, or replayed."""
    unsendable: int = 0
    """Too long, or refused by SRTP."""
    rtp_received: int = 0
    """RTP packets of known tracks, repairs included."""
    rtp_sent: int = 0
    """RTP packets, without repairs."""
    repaired: int = 0
    """RTP packets that came because this end asked."""
    resent: int = 0
    """RTP packets sent again because the far end asked."""


class CarrierUser(Protocol):
    """Takes what a carrier brings."""

    def take_rtp(self, packet: bytes, now: float) -> None:
        """Take an RTP packet that authenticated."""
        ...

    def take_rtcp(self, packet: bytes, now: float) -> None:
        """Take an RTCP compound that authenticated."""
        ...


class TrunkSocket(UdpSocket):
    """Sends and receives for every carrier."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = TrunkCounters()
        self._carriers: list[Carrier] = []
        self._by_source: dict[Address, Carrier] = {}
        self._unknown = TokenBucket(UNKNOWN_PER_S, int(UNKNOWN_PER_S))

    @property
    def local(self) -> Endpoint:
        """Where the socket is bound. Raises RuntimeError before it is."""
        return Endpoint(*self.local_address)

    def add(self, carrier: "Carrier") -> None:
        """Expect datagrams from the carrier's far end; an older carrier of that address gets none any more."""
        self._carriers.append(carrier)
        self._remember(carrier, carrier.remote)

    def remove(self, carrier: "Carrier") -> None:
        """Expect nothing more for this very carrier."""
        if carrier in self._carriers:
            self._carriers.remove(carrier)
        for source in carrier.sources:
            if self._by_source.get(source) is carrier:
                del self._by_source[source]
        self.expect(self._by_source)

    def send(self, datagram: bytes, address: Address) -> None:
        """Send, if the socket is open."""
        if self._transport is not None:
            self.counters.sent += 1
            self._transport.sendto(datagram, address)

    # --- asyncio.DatagramProtocol ----------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Give a datagram to the carrier that it claims to be from."""
        source = (addr[0], addr[1])
        now = monotonic()
        carrier = self._by_source.get(source)
        if carrier is None:
            self._recognise(data, source, now)
        elif carrier.datagram(data, now):
            self.counters.received += 1
        else:
            self.counters.forged += 1

    def _recognise(self, data: bytes, source: Address, now: float) -> None:
        """Find the trunk of a source that was not seen before, by its keys."""
        if self._unknown.passes(now):
            for carrier in self._carriers:
                if carrier.datagram(data, now):
                    self.counters.received += 1
                    self._remember(carrier, source)
                    return
        self.counters.stray += 1

    def _remember(self, carrier: "Carrier", source: Address) -> None:
        if len(carrier.sources) >= MAX_SOURCES:
            oldest = carrier.sources.pop(1)  # the first is where the far end receives
            if self._by_source.get(oldest) is carrier:
                del self._by_source[oldest]
        carrier.sources.append(source)
        self._by_source[source] = carrier
        self.expect(self._by_source)


class Carrier:
    """The keys and the far address of one trunk, from one Open to the next."""

    def __init__(
        self,
        socket: TrunkSocket,
        user: CarrierUser,
        remote: Endpoint,
        *,
        send_key: bytes,
        receive_key: bytes,
    ) -> None:
        if ip_address(remote.host).version != ip_address(socket.local.host).version:
            raise ValueError(
                f"{remote.host} and this node's trunk address are not of the same IP version"
            )
        self.remote: Address = (remote.host, remote.port)
        """Where the far end receives."""
        self.sources: list[Address] = []
        """Where it sends from; the socket's business."""
        self._socket = socket
        self._user = user
        self._send = SrtpContext(PROFILE, send_key, outbound=True)
        self._receive = SrtpContext(PROFILE, receive_key, outbound=False)
        socket.add(self)

    def send_rtp(self, packet: bytes) -> None:
        """Protect and send an RTP packet."""
        try:
            self._socket.send(self._send.protect(packet), self.remote)
        except SrtpError:
            self._socket.counters.unsendable += 1

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send an RTCP compound."""
        try:
            self._socket.send(self._send.protect_rtcp(packet), self.remote)
        except SrtpError:
            self._socket.counters.unsendable += 1

    def forget(self, ssrc: int) -> None:
        """Free the state of a stream that this end sent and will never send again."""
        self._send.forget(ssrc)

    def forget_received(self, ssrc: int) -> None:
        """Free the state of a stream that the far end withdrew."""
        self._receive.forget(ssrc)

    def datagram(self, data: bytes, now: float) -> bool:
        """Open a datagram and pass it on; return False if it is not from the far end."""
        if len(data) < 12:  # shorter than any header
            return False
        try:
            if is_rtcp(data):
                self._user.take_rtcp(self._receive.unprotect_rtcp(data), now)
            else:
                self._user.take_rtp(self._receive.unprotect(data), now)
        except SrtpError:
            return False
        return True

    def close(self) -> None:
        """Take nothing more from the far end."""
        self._socket.remove(self)
