"""The process's certificate, its key and whom it trusts, as they are on disk while it runs.

Whoever replaces the files (`thalweg ca issue`, cert-manager, SPIRE) need not tell anybody: they are read again when
they change. Three files do not change in one step, so a key that is not the certificate's means "not yet".
"""

from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controlplane.adapters.authority import alternative_names

FILES = ("ca.pem", "cert.pem", "key.pem")

LATE = 6
"""With less than one sixth of its life left a certificate should long have been replaced: two thirds is the custom."""


@dataclass(frozen=True, slots=True)
class TlsContent:
    """What the files hold, PEM, and what the certificate says."""

    ca: bytes
    cert: bytes
    key: bytes = field(repr=False)
    begins_at: float
    """Seconds since 1970."""
    ends_at: float
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]

    def is_late(self, now: float) -> bool:
        """Return whether it is about to end, and nobody has replaced it."""
        return self.ends_at - now < (self.ends_at - self.begins_at) / LATE


class TlsFiles:
    """The files of a directory as of their last good version."""

    def __init__(self, directory: Path) -> None:
        """Read them. Raises OSError, and ValueError with a sentence."""
        self._directory = directory
        self._stamp = self._stamped()
        self.value = read(directory)
        self.problem = ""
        """Why the newest version is not in force; empty when it is."""
        self._suspected = ""

    def __str__(self) -> str:
        """Return the path."""
        return str(self._directory)

    def poll(self) -> bool:
        """Look whether the files changed, which may block; return whether `value` or `problem` did. Never raises.

        Something wrong is a problem when it is there twice: the first time may be between two writes.
        """
        wrong, is_newer = "", False
        try:
            stamp = self._stamped()
            if stamp != self._stamp:
                self.value, is_newer = read(self._directory), True
                self._stamp = stamp
        except OSError as error:
            wrong = f"cannot be read: {error.strerror or error}"
        except ValueError as error:
            wrong = str(error)
        before = self.problem
        if not wrong or wrong == self._suspected:
            self.problem = wrong
        self._suspected = wrong
        return is_newer or self.problem != before

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return mTLS credentials that follow the files; a caller without a certificate is refused."""
        shown = self.value

        def newer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            if self.value is shown:
                return None
            shown = self.value
            return _configuration(shown)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(shown),
            newer,  # type: ignore[arg-type]  # None is "as before", as gRPC's documentation has it
            require_client_authentication=True,
        )

    def _stamped(self) -> tuple[tuple[int, int, int], ...]:
        found = [(self._directory / name).stat() for name in FILES]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)


def read(directory: Path) -> TlsContent:
    """Read the files of a directory and check that they belong together.

    Raises OSError, and ValueError with a sentence.
    """
    ca, cert, key = ((directory / name).read_bytes() for name in FILES)
    try:
        certificate = x509.load_pem_x509_certificate(cert)
        private = load_pem_private_key(key, password=None)
        x509.load_pem_x509_certificates(ca)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(
            f"{directory} holds no certificate with its unencrypted key: {error}"
        ) from error
    if certificate.public_key() != private.public_key():
        raise ValueError(f"key.pem of {directory} is not the key of its cert.pem")
    dns_names, addresses = alternative_names(certificate.extensions)
    return TlsContent(
        ca,
        cert,
        key,
        begins_at=certificate.not_valid_before_utc.timestamp(),
        ends_at=certificate.not_valid_after_utc.timestamp(),
        dns_names=dns_names,
        ip_addresses=addresses,
    )


def _configuration(content: TlsContent) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(content.key, content.cert)], root_certificates=content.ca
    )
