"""Who a node is, and who it talks to: certificates with a SPIFFE ID (X.509-SVID), mutual TLS everywhere.

A node's certificate names it in one URI SAN, `spiffe://thalweg/region/REGION/node/NODE`. The other end is what
its certificate says, whatever its messages say.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509

_NODE_ID = re.compile(r"spiffe://thalweg/region/([a-z][a-z0-9-]{0,62})/node/([a-z][a-z0-9-]{0,62})")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What a node's certificate says."""

    region: str
    node: str


def node_identity(uris: Iterable[str]) -> NodeIdentity | None:
    """Return whom the URI SANs of a certificate name, or None if that is not one node.

    An X.509-SVID has exactly one URI SAN; with more, none is believed.
    """
    names = list(uris)
    match = _NODE_ID.fullmatch(names[0]) if len(names) == 1 else None
    return NodeIdentity(match[1], match[2]) if match else None


def peer_identity(auth_context: Mapping[str, Iterable[bytes]]) -> NodeIdentity | None:
    """Return who called, from a gRPC call's auth_context, or None if that was not a node."""
    names = auth_context.get("x509_subject_alternative_name", ())
    texts = [name.decode(errors="replace") for name in names]
    return node_identity(text for text in texts if "://" in text)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A process's certificate, its key, and whom it trusts, all PEM."""

    ca: bytes
    cert: bytes
    key: bytes

    @classmethod
    def load(cls, directory: Path) -> "TlsFiles":
        """Read ca.pem, cert.pem and key.pem. Raises OSError."""
        return cls(*((directory / name).read_bytes() for name in ("ca.pem", "cert.pem", "key.pem")))

    def identity(self) -> NodeIdentity | None:
        """Return whom the certificate names. Raises ValueError if it is not a certificate."""
        certificate = x509.load_pem_x509_certificate(self.cert)
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return None
        return node_identity(names.value.get_values_for_type(x509.UniformResourceIdentifier))

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials to call others with."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials to be called with; a caller without a certificate is refused."""
        return grpc.ssl_server_credentials(
            [(self.key, self.cert)], root_certificates=self.ca, require_client_auth=True
        )
