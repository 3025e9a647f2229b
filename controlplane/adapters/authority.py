"""The built-in certificate authority in a directory, and what it signs for nodes.

`authority.pem` holds everything in one file, so that replacing it is one step: the key, its certificate, and while one
authority takes over from another the two that `CertificateAuthority.follow` speaks of. `ca.pem` beside it is whom to
trust, for copying to others; it is made from the first and never read.
"""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controlplane.adapters.ca import BACKDATED, CertificateAuthority, replace_private
from controlplane.adapters.watched import WatchedFile
from controlplane.core.enrolment import NODE_LIFETIME_S, Issued, SigningRequest
from controlplane.errors import ConflictError, InvalidInputError, NotFoundError

AUTHORITY_FILE = "authority.pem"
TRUSTED_FILE = "ca.pem"

LIFETIME = timedelta(days=3650)
"""Of an authority. Replacing it is `rotate`, whenever that is wanted; its end must not be what does it."""

MAX_REQUEST = 8 * 1024
"""Bytes of a signing request; ours have 600."""

MAX_NAMES = 10
"""Names by which a node is called."""

_INIT = "make one with `thalweg ca init --dir DIR`"


def create(directory: Path, *, now: datetime) -> CertificateAuthority:
    """Make a new authority in a directory, made if need be.

    Raises ConflictError ("ca-exists") when there is one, OSError.
    """
    if (directory / AUTHORITY_FILE).exists():
        raise ConflictError(
            "ca-exists",
            f"{directory} has an authority already",
            "`thalweg ca rotate` replaces it without breaking anything",
        )
    authority = CertificateAuthority.create("thalweg", now=now, lifetime=LIFETIME)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    save(directory, authority)
    return authority


def rotate(directory: Path, *, now: datetime) -> CertificateAuthority:
    """Let a new authority take over; the one before it stays trusted until `finish`.

    Raises ConflictError ("ca-rotating") when one is taking over already, and as `load`.
    """
    before = load(directory)
    if before.previous is not None:
        raise ConflictError(
            "ca-rotating",
            "an authority is taking over already",
            "end that with `thalweg ca rotate --finish`",
        )
    authority = before.follow("thalweg", now=now, lifetime=LIFETIME)
    save(directory, authority)
    return authority


def finish(directory: Path, *, now: datetime) -> CertificateAuthority:
    """Stop trusting the authority before, once nodes' certificates by it are all replaced.

    Raises ConflictError ("ca-not-rotating", "ca-too-early"), and as `load`.
    """
    authority = load(directory)
    if authority.previous is None:
        raise ConflictError("ca-not-rotating", "there is only one authority")
    took_over = authority.certificate.not_valid_before_utc + BACKDATED
    ready = took_over + timedelta(seconds=NODE_LIFETIME_S)
    if now < ready:
        raise ConflictError(
            "ca-too-early",
            f"nodes have certificates by the old authority until {ready:%Y-%m-%d %H:%M} UTC",
            "wait until then, and issue those of control planes and signalling servers anew meanwhile",
        )
    save(directory, authority.alone())
    return authority.alone()


def load(directory: Path) -> CertificateAuthority:
    """Read the authority of a directory.

    Raises NotFoundError ("ca-missing"), InvalidInputError ("ca-invalid"), OSError.
    """
    path = directory / AUTHORITY_FILE
    try:
        content = path.read_text("utf-8")
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError as error:
        raise NotFoundError("ca-missing", f"{directory} has no {AUTHORITY_FILE}", _INIT) from error
    except UnicodeDecodeError as error:
        raise _invalid(f"{path} is not PEM", _INIT) from error
    if mode & stat.S_IRWXO:
        raise _invalid(f"everybody on this machine can open {path}", f"chmod 600 {path}")
    return parse(content)


def parse(text: str) -> CertificateAuthority:
    """Return what `save` wrote. Raises InvalidInputError ("ca-invalid")."""
    content = text.encode()
    try:
        key = serialization.load_pem_private_key(content, password=None)
        certificates = x509.load_pem_x509_certificates(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _invalid(f"{AUTHORITY_FILE} cannot be read: {error}", _INIT) from error
    own, *rest = certificates
    if not isinstance(key, ec.EllipticCurvePrivateKey) or own.public_key() != key.public_key():
        raise _invalid(f"the first certificate of {AUTHORITY_FILE} is not that of its key", _INIT)
    cross = next((one for one in rest if one.subject == own.subject), None)
    previous = next((one for one in rest if one.subject != own.subject), None)
    return CertificateAuthority(key, own, cross, previous)


def save(directory: Path, authority: CertificateAuthority) -> None:
    """Write an authority in one step, then whom to trust. Raises OSError."""
    key = authority.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificates = (authority.certificate, authority.cross, authority.previous)
    rest = (one.public_bytes(serialization.Encoding.PEM) for one in certificates if one)
    replace_private(directory / AUTHORITY_FILE, key + b"".join(rest))
    replace_private(directory / TRUSTED_FILE, authority.trusted())


class Issuer:
    """Signs nodes' certificates with the authority of a directory, as it is on disk (CertificateIssuer)."""

    def __init__(self, directory: Path) -> None:
        """Raise as `load`."""
        load(directory)
        self.file = WatchedFile(directory / AUTHORITY_FILE, parse)
        """To be polled: the authority is replaced while this process runs."""

    @property
    def authority(self) -> CertificateAuthority:
        """The authority as of the last poll."""
        return self.file.value

    def pin(self) -> str:
        """Return the authority's hash."""
        return self.authority.pin()

    def read(self, csr_pem: str) -> SigningRequest:
        """Check a PKCS #10 request (RFC 2986) and its signature.

        Raises InvalidInputError ("csr-invalid").
        """
        if len(csr_pem) > MAX_REQUEST:
            raise _bad_request(f"it has {len(csr_pem)} characters, at most {MAX_REQUEST} are read")
        try:
            request = x509.load_pem_x509_csr(csr_pem.encode())
            key = request.public_key()
            # Before the signature: a stranger's key of another kind can take 100 times as long to verify.
            if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
                raise _bad_request("its key is not on the curve P-256")
            is_signed = request.is_signature_valid
            dns_names, addresses = alternative_names(request.extensions)
        except (
            ValueError,
            TypeError,
            UnsupportedAlgorithm,
            x509.DuplicateExtension,
            x509.InvalidVersion,
            x509.UnsupportedGeneralNameType,
        ) as error:
            raise _bad_request(f"{error}") from error
        if not is_signed:
            raise _bad_request("its signature is not by its key")
        if len(dns_names) + len(addresses) > MAX_NAMES:
            raise _bad_request(f"it has more than {MAX_NAMES} names")
        spki = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return SigningRequest(spki, dns_names, addresses)

    def sign(self, request: SigningRequest, spiffe_id: str, *, now: float) -> Issued:
        """Sign a request for NODE_LIFETIME_S seconds from `now`."""
        key = serialization.load_der_public_key(request.public_key)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError("`read` accepts no other key")
        authority = self.authority
        chain = authority.sign(
            key,
            spiffe_id,
            dns_names=request.dns_names,
            ip_addresses=request.ip_addresses,
            now=datetime.fromtimestamp(now, UTC),
            lifetime=timedelta(seconds=NODE_LIFETIME_S),
        )
        return Issued(chain.decode(), authority.trusted().decode(), now + NODE_LIFETIME_S)


def alternative_names(extensions: x509.Extensions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the DNS names and the addresses of a certificate or a request for one."""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return tuple(names.get_values_for_type(x509.DNSName)), tuple(map(str, addresses))


def _invalid(why: str, hint: str) -> InvalidInputError:
    return InvalidInputError("ca-invalid", why, hint)


def _bad_request(why: str) -> InvalidInputError:
    return InvalidInputError(
        "csr-invalid",
        f"the signing request cannot be used: {why}",
        "send a PKCS #10 request in PEM with a P-256 key, signed by that key",
    )
