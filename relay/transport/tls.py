"""Who a node is, and who it talks to: certificates with a SPIFFE ID (X.509-SVID), mutual TLS everywhere.

A node's certificate names it in one URI SAN, `spiffe://thalweg/region/REGION/node/NODE`. The other end is what
its certificate says, whatever its messages say.
"""

import asyncio
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from relay.transport.clock import wall

FILES = ("ca.pem", "cert.pem", "key.pem")

POLL_S = 2.0
"""How late replaced files are noticed."""

LATE = 6
"""With less than one sixth of its life left a certificate should long have been replaced: two thirds is the custom."""

COMPLAIN_EVERY_S = 3600.0
"""Between two lines about a certificate that is about to end."""

log = structlog.get_logger("relay.tls")

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
class Names:
    """What the names and dates of a certificate are."""

    identity: NodeIdentity | None
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    begins_at: float
    """Seconds since 1970."""
    ends_at: float

    def is_late(self, now: float) -> bool:
        """Return whether it is about to end, and nobody has replaced it."""
        return self.ends_at - now < (self.ends_at - self.begins_at) / LATE


class Credentials(Protocol):
    """What calls between nodes, and to the control plane, are made and taken with."""

    @property
    def version(self) -> int:
        """Grows when the certificate is replaced."""
        ...

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials to call others with."""
        ...

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials to be called with; a caller without a certificate is refused."""
        ...


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A process's certificate, its key, and whom it trusts, all PEM."""

    ca: bytes
    cert: bytes
    key: bytes = field(repr=False)

    @property
    def version(self) -> int:
        """Stays as it is (Credentials)."""
        return 0

    @classmethod
    def load(cls, directory: Path) -> "TlsFiles":
        """Read ca.pem, cert.pem and key.pem. Raises OSError."""
        return cls(*((directory / name).read_bytes() for name in FILES))

    def save(self, directory: Path) -> None:
        """Write the three files so that whoever reads them sees all of them old or all of them new.

        They are links into a directory whose name is changed in one step, as Kubernetes writes a Secret.
        Raises OSError. Blocks: call it in a thread.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = directory / f"..{secrets.token_hex(8)}"
        fresh.mkdir(mode=0o700)
        for name, content in zip(FILES, (self.ca, self.cert, self.key), strict=True):
            _write(fresh / name, content)
        current = directory / "..data"
        before = current.resolve() if current.is_symlink() else None
        _link(current, fresh.name)
        for name in FILES:
            if not (directory / name).is_symlink():
                _link(directory / name, f"..data/{name}")
        if before is not None and before.parent == directory.resolve():
            shutil.rmtree(before, ignore_errors=True)

    def names(self) -> Names:
        """Return what the certificate says. Raises ValueError if it is not a certificate."""
        certificate = x509.load_pem_x509_certificate(self.cert)
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return Names(None, (), (), begins.timestamp(), ends.timestamp())
        return Names(
            node_identity(names.value.get_values_for_type(x509.UniformResourceIdentifier)),
            tuple(names.value.get_values_for_type(x509.DNSName)),
            tuple(map(str, names.value.get_values_for_type(x509.IPAddress))),
            begins.timestamp(),
            ends.timestamp(),
        )

    def identity(self) -> NodeIdentity | None:
        """Return whom the certificate names. Raises ValueError if it is not a certificate."""
        return self.names().identity

    def check(self, expected: NodeIdentity) -> Names:
        """Return what the certificate says if the files belong together and name this node.

        Raises ValueError with a sentence.
        """
        try:
            x509.load_pem_x509_certificates(self.ca)
            names = self.names()
            key = load_pem_private_key(self.key, password=None)
            certified = x509.load_pem_x509_certificate(self.cert).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(
                f"they hold no certificate with its unencrypted key: {error}"
            ) from error
        if key.public_key() != certified:
            raise ValueError("key.pem is not the key of cert.pem")
        if names.identity != expected:
            found = names.identity
            named = f"node {found.node} of {found.region}" if found else "no node"
            raise ValueError(
                f"cert.pem names {named}, not node {expected.node} of {expected.region}: it needs the URI SAN"
                f" spiffe://thalweg/region/{expected.region}/node/{expected.node}"
            )
        return names

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials to call others with."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials to be called with; a caller without a certificate is refused."""
        return grpc.ssl_server_credentials(
            [(self.key, self.cert)], root_certificates=self.ca, require_client_auth=True
        )


class LiveTls:
    """The files of a directory as they are now: what is called and who calls sees the newest (Credentials).

    gRPC's channels keep the certificate that they were made with, so each call to others is made on a channel of its
    own; connections that are open go on.
    """

    def __init__(self, directory: Path, expected: NodeIdentity, files: TlsFiles) -> None:
        """`files` have been checked. Raises ValueError as `TlsFiles.check`."""
        self.directory = directory
        self.files = files
        self.version = 0
        """Grows when the files are replaced."""
        self.names = files.check(expected)
        self._expected = expected
        self._stamp: object = None
        self._problem = ""
        self._problem_polls = 0
        self._complained_at = 0.0

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials to call others with, once."""
        return self.files.channel_credentials()

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files; a caller without a certificate is refused."""
        shown = self.files

        def newer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            if self.files is shown:
                return None
            shown = self.files
            return _configuration(shown)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(shown),
            newer,  # type: ignore[arg-type]  # None is "as before", as gRPC's documentation has it
            require_client_authentication=True,
        )

    async def follow(self) -> None:
        """Follow the files until cancelled."""
        while True:
            self._watch_the_end()
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self.poll)

    def poll(self) -> None:
        """Take the files if they changed and are good; those of before stay otherwise. Never raises; blocks."""
        problem = ""
        try:
            found = [(self.directory / name).stat() for name in FILES]
            stamp = [(one.st_mtime_ns, one.st_size, one.st_ino) for one in found]
            if stamp != self._stamp:
                files = TlsFiles.load(self.directory)
                names = files.check(self._expected)
                self._stamp = stamp
                if files != self.files:
                    self.files, self.names = files, names
                    self.version += 1
                    log.info("the certificate was replaced", ends_at=round(names.ends_at))
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
        except ValueError as error:
            problem = str(error)
        self._problem_polls = self._problem_polls + 1 if problem and problem == self._problem else 0
        self._problem = problem
        if self._problem_polls == 1:  # once may be between two writes
            log.error(
                "FILES OF THE CERTIFICATE ARE BROKEN: the last good ones stay in force",
                directory=str(self.directory),
                problem=problem,
            )

    def _watch_the_end(self) -> None:
        now = wall()
        if self.names.is_late(now) and now - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = now
            log.error(
                "THE CERTIFICATE IS ABOUT TO END: no session and no trunk begins after that",
                directory=str(self.directory),
                hours_left=round((self.names.ends_at - now) / 3600, 1),
                hint="put a new one into the directory; it is read at once",
            )


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.cert)], root_certificates=files.ca
    )


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _link(path: Path, target: str) -> None:
    """Make a symbolic link, or replace what is there by one, in one step."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)
