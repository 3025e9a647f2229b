"""DTLS-SRTP (RFC 5763, 5764, 6347) without sockets: datagrams in, datagrams out, then SRTP keys.

aiortc's transport answers as DTLS client with ECDSA ciphers only, so every peer with an RSA certificate
(GStreamer, for one) fails. This one prefers the server's role, in which the peer's certificate may be of any
kind, and offers ciphers for both kinds when it has to be the client.
"""

import datetime
from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from relay.transport.srtp import Profile, SrtpContext, SrtpError

MTU = 1200
"""Largest DTLS datagram in bytes; what WebRTC stacks assume of any path."""

MAX_RECORD = 16_384
"""Bytes of data in one record (RFC 6347, section 4.1)."""

CIPHERS = b":".join(
    (
        b"ECDHE-ECDSA-AES128-GCM-SHA256",
        b"ECDHE-RSA-AES128-GCM-SHA256",
        b"ECDHE-ECDSA-AES256-GCM-SHA384",
        b"ECDHE-RSA-AES256-GCM-SHA384",
        b"ECDHE-ECDSA-CHACHA20-POLY1305",
        b"ECDHE-RSA-CHACHA20-POLY1305",
        b"ECDHE-ECDSA-AES128-SHA",
        b"ECDHE-RSA-AES128-SHA",
    )
)

# 128-bit GCM first: a client leg needs no more, and it costs a third less than AES128_CM_SHA1_80.
PROFILES = (Profile.AEAD_AES_128_GCM, Profile.AEAD_AES_256_GCM, Profile.AES128_CM_SHA1_80)

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha-256": hashes.SHA256,
    "sha-384": hashes.SHA384,
    "sha-512": hashes.SHA512,
}


class Certificate:
    """The process's own certificate; clients check its fingerprint, which the SDP answer carries."""

    def __init__(self, now: datetime.datetime) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "thalweg")])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365))
            .sign(self.key, hashes.SHA256())
        )
        self.fingerprint = _fingerprint(self.certificate, hashes.SHA256)
        self._contexts: SSL.Context | None = None

    def context(self) -> SSL.Context:
        """Return the OpenSSL context that all sessions share."""
        if self._contexts is None:
            context = SSL.Context(SSL.DTLS_METHOD)
            context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU)
            # The peer's certificate is self-signed: its fingerprint is checked after the handshake.
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
            context.use_certificate(self.certificate)
            context.use_privatekey(self.key)
            context.set_cipher_list(CIPHERS)
            context.set_tlsext_use_srtp(b":".join(profile.openssl_name for profile in PROFILES))
            self._contexts = context
        return self._contexts


def _fingerprint(certificate: x509.Certificate, function: type[hashes.HashAlgorithm]) -> str:
    digest = certificate.fingerprint(function()).hex().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


class DtlsState(Enum):
    """Where a session stands."""

    HANDSHAKE = "handshake"
    CONNECTED = "connected"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SrtpPair:
    """The two directions of a session."""

    outbound: SrtpContext
    inbound: SrtpContext


class DtlsSession:
    """One DTLS association. `server` is our role; `fingerprints` are the peer's, from its SDP."""

    def __init__(
        self, certificate: Certificate, *, server: bool, fingerprints: tuple[tuple[str, str], ...]
    ) -> None:
        self.state = DtlsState.HANDSHAKE
        self.why = ""
        """Why it failed or closed."""
        self.srtp: SrtpPair | None = None
        self._server = server
        self._fingerprints = fingerprints
        self._connection = SSL.Connection(certificate.context(), None)
        self._connection.set_ciphertext_mtu(MTU)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()

    def start(self) -> list[bytes]:
        """Return the first flight: nothing for a server."""
        if not self._server:
            self._handshake()
        return self._outgoing()

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take a datagram; return those to send."""
        if self.state in (DtlsState.FAILED, DtlsState.CLOSED):
            return []
        self._connection.bio_write(datagram)
        if self.state is DtlsState.HANDSHAKE:
            self._handshake()
        else:
            self._read()
        return self._outgoing()

    def timeout_s(self) -> float | None:
        """Return the seconds until a flight has to be repeated, or None."""
        if self.state is not DtlsState.HANDSHAKE:
            return None
        return self._connection.DTLSv1_get_timeout()

    def handle_timeout(self) -> list[bytes]:
        """Repeat a flight that was lost."""
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error:
            self._fail("the peer did not answer the handshake")
        return self._outgoing()

    def close(self) -> list[bytes]:
        """Say goodbye."""
        if self.state is DtlsState.CONNECTED:
            self.state, self.why = DtlsState.CLOSED, "closed here"
            try:
                self._connection.shutdown()
            except SSL.Error:
                return []
            return self._outgoing()
        return []

    def _handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            self._fail(f"handshake: {_reason(error)}")
            return
        why_not = self._why_not_the_peer()
        if why_not is None:
            why_not = self._derive_keys()
        if why_not is None:
            self.state = DtlsState.CONNECTED
        else:
            self._fail(why_not)

    def _read(self) -> None:
        try:
            while True:  # no application data is negotiated: it is dropped, lest it pile up
                self._connection.recv(MAX_RECORD)
        except SSL.WantReadError:
            return
        except SSL.ZeroReturnError:
            self.state, self.why = DtlsState.CLOSED, "the peer closed"
        except SSL.Error as error:
            self.state, self.why = DtlsState.CLOSED, _reason(error)

    def _why_not_the_peer(self) -> str | None:
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            return "the peer showed no certificate"
        known = [(name, value) for name, value in self._fingerprints if name in _HASHES]
        if not known:
            return "the offer has no fingerprint of SHA-256 or better"
        for name, value in known:
            if _fingerprint(certificate, _HASHES[name]) != value:
                return "the peer's certificate is not the one of the offer"
        return None

    def _derive_keys(self) -> str | None:
        name = self._connection.get_selected_srtp_profile()
        profile = next((one for one in PROFILES if one.openssl_name == name), None)
        if profile is None:
            return "no common SRTP profile"
        key, salt = profile.key_bytes, profile.salt_bytes
        material = self._connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        salts = material[2 * key :]
        client = material[:key] + salts[:salt]
        server = material[key : 2 * key] + salts[salt:]
        ours, theirs = (server, client) if self._server else (client, server)
        try:
            self.srtp = SrtpPair(
                SrtpContext(profile, ours, outbound=True),
                SrtpContext(profile, theirs, outbound=False),
            )
        except SrtpError as error:
            return str(error)
        return None

    def _fail(self, why: str) -> None:
        self.state, self.why = DtlsState.FAILED, why

    def _outgoing(self) -> list[bytes]:
        flight = bytearray()
        while True:
            try:
                flight += self._connection.bio_read(65536)
            except SSL.WantReadError:
                break
            except SSL.Error:
                break
        return _datagrams(bytes(flight))


def _reason(error: SSL.Error) -> str:
    """Return OpenSSL's own words for an error."""
    details = error.args[0] if error.args else ()
    words = [part[-1] for part in details if part] if isinstance(details, list | tuple) else []
    return ", ".join(words) or type(error).__name__


def _datagrams(flight: bytes) -> list[bytes]:
    """Cut what the memory BIO ran together into datagrams of whole records (RFC 6347, section 4.1.1)."""
    datagrams: list[bytes] = []
    position = 0
    while position + 13 <= len(flight):
        end = position + 13 + int.from_bytes(flight[position + 11 : position + 13], "big")
        record = flight[position:end]
        if datagrams and len(datagrams[-1]) + len(record) <= MTU:
            datagrams[-1] += record
        else:
            datagrams.append(record)
        position = end
    return datagrams
