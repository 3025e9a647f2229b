"""Finding the control plane's authority by its hash, before anything is said to anybody.

A new node trusts nobody. It looks at the chain that the far end shows, takes from it the authority whose hash the join
token carries, and trusts that one alone from then on: whoever sits in between cannot show a chain under it.
"""

import base64
import hashlib
import ipaddress
import select
import socket

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL

from relay.transport.clock import monotonic

TIMEOUT_S = 10.0
"""For the connection and the handshake together."""


class WrongAuthorityError(Exception):
    """The far end does not show the authority; the text says so."""


def authority_of(host: str, port: int, pin: str) -> bytes:
    """Return the certificate (PEM) of the authority with this hash from the chain that a TLS server shows.

    Blocks for up to TIMEOUT_S: call it in a thread. Raises OSError, and `WrongAuthorityError`.
    """
    chain = _chain(host, port)
    for certificate in chain:
        if pin_of(certificate) == pin:
            return certificate.public_bytes(Encoding.PEM)
    raise WrongAuthorityError(
        f"{host}:{port} shows {len(chain)} certificates, and none is the authority that the join token names:"
        " is that the enrolment port of this control plane? The token was not shown to it"
    )


def pin_of(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's SubjectPublicKeyInfo, base64url without padding."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(spki).digest()).rstrip(b"=").decode()


def _chain(host: str, port: int) -> list[x509.Certificate]:
    deadline = monotonic() + TIMEOUT_S
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_alpn_protos([b"h2"])
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as plain:
        connection = SSL.Connection(context, plain)
        connection.set_connect_state()
        if not _is_address(host):
            connection.set_tlsext_host_name(host.encode("idna"))
        try:
            _shake_hands(connection, plain, deadline)
        except SSL.Error as error:
            raise OSError(f"{host}:{port} speaks no TLS: {error}") from error
        return list(connection.get_peer_cert_chain(as_cryptography=True) or ())


def _shake_hands(connection: SSL.Connection, plain: socket.socket, deadline: float) -> None:
    """Do the handshake of a socket that does not block."""
    while True:
        try:
            return connection.do_handshake()
        except SSL.WantReadError:
            left = deadline - monotonic()
            if left <= 0 or not select.select([plain], [], [], left)[0]:
                raise TimeoutError("no TLS handshake within the time") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
