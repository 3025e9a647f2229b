"""One client's transport: ICE-lite, DTLS and SRTP between the shared UDP port and a session."""

import secrets
from collections.abc import Callable
from typing import Protocol

from relay.core import rtcp, rtp, stun
from relay.core.round_trips import RoundTrips
from relay.core.sdp import Offer
from relay.core.sdp_answer import LocalTransport
from relay.engines.embedded.dtls import Certificate, DtlsSession, DtlsState, SrtpPair
from relay.transport.srtp import SrtpError

Address = tuple[str, int]

CONNECT_WITHIN_S = 15.0
"""From the answer to a finished handshake. ICE on a bad network takes up to ten seconds."""

CNAME = "thalweg"
"""Of everything that the node sends (RFC 3550, section 6.5.1): its streams share one clock."""

MAX_SSRCS = 256
"""Streams that a client may send, media, repairs and RTCP together: libsrtp keeps state of each one for ever,
in a list that it walks for each packet. Four for each of the 64 m-lines of the largest offer."""

CONSENT_S = 30.0
"""Without an authentic check for this long the client is gone (RFC 7675, section 5.1)."""


class PeerHandler(Protocol):
    """A session that uses a transport."""

    def connected(self, now: float) -> None:
        """The handshake is done: packets may flow."""
        ...

    def take_rtp(self, packet: bytes, now: float) -> None:
        """Take an RTP packet that authenticated."""
        ...

    def take_rtcp(self, packets: list[rtcp.Packet], now: float) -> None:
        """Take the packets of an RTCP compound that authenticated."""
        ...


class Peer:
    """ICE-lite, DTLS and SRTP of one client. Single-threaded; `now` is monotonic seconds."""

    def __init__(
        self,
        offer: Offer,
        certificate: Certificate,
        handler: PeerHandler,
        send: Callable[[bytes, Address], None],
        now: float,
    ) -> None:
        self.ufrag = secrets.token_hex(8)  # of ice-chars alone (RFC 8839, section 5.4)
        self.pwd = secrets.token_hex(16)
        self._theirs = (offer.ice_ufrag, offer.ice_pwd)
        self._round_trips = RoundTrips()
        self._server = offer.setup != "passive"  # RFC 5763: whoever offers actpass leaves it to us
        self._dtls = DtlsSession(certificate, server=self._server, fingerprints=offer.fingerprints)
        self._srtp: SrtpPair | None = None
        self._handler = handler
        self._send = send
        self._remote: Address | None = None
        self._began = now
        self._checked_at = now
        self._started = False
        self._ssrcs: set[bytes] = set()
        self.rejected_packets = 0
        """Packets that did not authenticate."""

    def local_transport(self, address: Address, fingerprint: str, cname: str) -> LocalTransport:
        """Return what the SDP answer says of this end."""
        return LocalTransport(
            host=address[0],
            port=address[1],
            ice_ufrag=self.ufrag,
            ice_pwd=self.pwd,
            fingerprint=fingerprint,
            setup="passive" if self._server else "active",
            session_id=secrets.randbits(62),
            cname=cname,
        )

    # --- from the port ---------------------------------------------------------------------------

    def checked(self, source: Address, *, nominated: bool, now: float) -> None:
        """Note an authentic connectivity check from `source`."""
        self._checked_at = now
        if (nominated or self._remote is None) and source != self._remote:
            self._remote = source
            self._round_trips = RoundTrips()  # another path
        if not self._started:
            self._started = True
            self._send_flight(self._dtls.start())

    def answered(self, response: stun.Message, now: float) -> bool:
        """Take the answer to a request for the round trip; return False if it is none."""
        return response.authentic(self._theirs[1]) and self._round_trips.answered(
            response.transaction, now
        )

    def dtls(self, datagram: bytes, now: float) -> None:
        """Take a DTLS datagram."""
        before = self._dtls.state
        self._send_flight(self._dtls.receive(datagram))
        if before is DtlsState.HANDSHAKE and self._dtls.state is DtlsState.CONNECTED:
            self._srtp = self._dtls.srtp
            self._handler.connected(now)

    def media(self, datagram: bytes, now: float) -> None:
        """Take an SRTP or SRTCP datagram."""
        if self._srtp is None:
            return
        is_rtcp = rtp.is_rtcp(datagram)
        ssrc = datagram[4:8] if is_rtcp else datagram[8:12]
        if ssrc not in self._ssrcs and len(self._ssrcs) >= MAX_SSRCS:
            self.rejected_packets += 1
            return
        inbound = self._srtp.inbound
        try:
            plain = inbound.unprotect_rtcp(datagram) if is_rtcp else inbound.unprotect(datagram)
        except SrtpError:
            self.rejected_packets += 1
            return
        self._ssrcs.add(ssrc)
        if is_rtcp:
            self._handler.take_rtcp(rtcp.parse(plain), now)
        else:
            self._handler.take_rtp(plain, now)

    # --- from the session ------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether media can flow."""
        return self._srtp is not None and self._dtls.state is DtlsState.CONNECTED

    def rtt_s(self, now: float) -> float | None:
        """Return the round trip to the client, the smallest of the last ones, or None while it is unknown."""
        return self._round_trips.value(now)

    def send_rtp(self, packet: bytes) -> None:
        """Protect and send an RTP packet; before the handshake it goes nowhere."""
        if self._srtp is not None and self._remote is not None:
            try:
                self._send(self._srtp.outbound.protect(packet), self._remote)
            except SrtpError:
                self.rejected_packets += 1

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send an RTCP packet."""
        if self._srtp is not None and self._remote is not None:
            try:
                self._send(self._srtp.outbound.protect_rtcp(packet), self._remote)
            except SrtpError:
                self.rejected_packets += 1

    def tick(self, now: float) -> None:
        """Repeat a handshake flight that was lost; measure the round trip."""
        timeout = self._dtls.timeout_s()
        if timeout is not None and timeout <= 0:
            self._send_flight(self._dtls.handle_timeout())
        if self.is_connected and self._remote is not None and self._round_trips.due(now):
            self._ask(self._remote, now)

    def why_over(self, now: float) -> str | None:
        """Return why this transport is of no more use, or None."""
        if self._dtls.state in (DtlsState.FAILED, DtlsState.CLOSED):
            return f"dtls {self._dtls.state.value}: {self._dtls.why}"
        if not self.is_connected and now - self._began > CONNECT_WITHIN_S:
            return f"not connected within {CONNECT_WITHIN_S:.0f} s"
        if now - self._checked_at > CONSENT_S:
            return f"no sign of the client for {CONSENT_S:.0f} s"
        return None

    def close(self) -> None:
        """Tell the client that it is over."""
        if self._remote is not None:
            for datagram in self._dtls.close():
                self._send(datagram, self._remote)
        self._srtp = None

    def _ask(self, remote: Address, now: float) -> None:
        """Send a check on the pair in use. A lite agent has to send none, but a full one answers it (RFC 8445, 7.3)."""
        transaction = secrets.token_bytes(12)
        ufrag, pwd = self._theirs
        self._send(stun.connectivity_check(transaction, f"{ufrag}:{self.ufrag}", pwd), remote)
        self._round_trips.asked(transaction, now)

    def _send_flight(self, flight: list[bytes]) -> None:
        if self._remote is not None:
            for datagram in flight:
                self._send(datagram, self._remote)
