"""A client's transport on both ends, without sockets."""

import datetime
from dataclasses import dataclass, field

from relay.core import rtcp
from relay.core.sdp import Offer
from relay.engines.embedded.dtls import Certificate, DtlsSession
from relay.engines.embedded.peer import Address, Peer
from relay.transport.clock import wall

HERE: Address = ("192.0.2.1", 5000)


def certificate() -> Certificate:
    return Certificate(datetime.datetime.fromtimestamp(wall(), datetime.UTC))


@dataclass
class Handler:
    """A session that notes what its transport brings."""

    connected_at: list[float] = field(default_factory=list)
    rtp: list[bytes] = field(default_factory=list)
    reports: list[rtcp.Packet] = field(default_factory=list)

    def connected(self, now: float) -> None:
        self.connected_at.append(now)

    def take_rtp(self, packet: bytes, now: float) -> None:
        del now
        self.rtp.append(packet)

    def take_rtcp(self, packets: list[rtcp.Packet], now: float) -> None:
        del now
        self.reports += packets


class Call:
    """A peer, and the client's end of it."""

    def __init__(self, setup: str = "actpass", *fingerprints: tuple[str, str]) -> None:
        ours, theirs = certificate(), certificate()
        prints = fingerprints or (("sha-256", theirs.fingerprint),)
        offer = Offer((), "ufrag", "pwd", prints, setup)
        self.handler = Handler()
        self.sent: list[tuple[bytes, Address]] = []
        self.peer = Peer(offer, ours, self.handler, self._send, 0.0)
        self.client = DtlsSession(
            theirs, server=setup == "passive", fingerprints=(("sha-256", ours.fingerprint),)
        )

    def _send(self, datagram: bytes, address: Address) -> None:
        self.sent.append((datagram, address))

    def connect(self) -> None:
        self.peer.checked(HERE, nominated=True, now=0.0)
        outgoing = self.client.start()
        for _ in range(10):
            for datagram in outgoing:
                self.peer.dtls(datagram, 0.01)
            arrived, self.sent = self.sent, []
            outgoing = [one for datagram, _ in arrived for one in self.client.receive(datagram)]

    def media(self, data: bytes) -> bytes:
        assert self.client.srtp is not None
        return self.client.srtp.outbound.protect(data)
