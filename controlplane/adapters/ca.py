"""A certificate authority: what it signs, and how it is followed by the next one.

authority.py keeps one in a directory; `thalweg up` and tests make one that ends with the process. Who brings a PKI of
his own needs certificates of the same form:

- one SPIFFE ID as URI SAN (X.509-SVID, exactly one per certificate): who the peer is;
- DNS and IP SANs: so that ordinary TLS clients accept the address they dialled (RFC 9525);
- serverAuth and clientAuth (RFC 5280, 4.2.1.12): every process listens and dials.
"""

import base64
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATED = timedelta(minutes=5)
"""Certificates are valid from this much before `now`: the clocks of peers differ."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a process needs to speak mTLS, all PEM."""

    ca: bytes
    """The authorities' certificates: whom to trust."""
    cert: bytes
    """The process's own certificate, and the intermediate one after it, if there is one."""
    key: bytes
    """Its private key, PKCS #8 (RFC 5958), not encrypted."""

    def write(self, directory: Path) -> None:
        """Write ca.pem, cert.pem and key.pem into `directory`, made if need be, readable by the owner only.

        Raises OSError when the directory cannot be written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(directory / "ca.pem", self.ca)
        write_private(directory / "cert.pem", self.cert)
        write_private(directory / "key.pem", self.key)


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """An EC P-256 key and its self-signed certificate; while it takes over from another one, that one's word too."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    cross: x509.Certificate | None = None
    """This authority's key, signed by the one before it: whoever trusts only that one accepts our certificates."""
    previous: x509.Certificate | None = None
    """The one before it, which is trusted until every certificate that it signed is replaced."""

    @classmethod
    def create(cls, name: str, *, now: datetime, lifetime: timedelta) -> Self:
        """Make a new authority; `now` has a time zone. Its name ends in random digits, for the next one's sake."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {secrets.token_hex(4)}")]
        )
        return cls(key, _sign_authority(key.public_key(), subject, subject, key, now, lifetime))

    def follow(self, name: str, *, now: datetime, lifetime: timedelta) -> "CertificateAuthority":
        """Return the authority that takes over from this one, at once and without anybody having to know it yet.

        Certificates of the old one go on: both are trusted. Those of the new one come with its certificate by the old
        one (RFC 4210, 4.4: "new with old"), so they convince peers who have not heard of it.
        """
        new = CertificateAuthority.create(name, now=now, lifetime=lifetime)
        left = self.certificate.not_valid_after_utc - now
        cross = _sign_authority(
            new.key.public_key(),
            new.certificate.subject,
            self.certificate.subject,
            self.key,
            now,
            min(lifetime, left),
        )
        return CertificateAuthority(new.key, new.certificate, cross, self.certificate)

    def alone(self) -> "CertificateAuthority":
        """Return this authority without the one before it."""
        return CertificateAuthority(self.key, self.certificate)

    def trusted(self) -> bytes:
        """Return whom to trust, PEM."""
        return _pem(self.certificate, self.previous)

    def pin(self) -> str:
        """Return the hash by which this authority is known (see `pin_of`)."""
        return pin_of(self.certificate)

    def issue(
        self,
        spiffe_id: str,
        *,
        dns_names: Sequence[str] = (),
        ip_addresses: Sequence[str] = (),
        now: datetime,
        lifetime: timedelta,
    ) -> Bundle:
        """Make a key and sign a certificate for it; see `sign` for the rest."""
        key = ec.generate_private_key(ec.SECP256R1())
        chain = self.sign(
            key.public_key(),
            spiffe_id,
            dns_names=dns_names,
            ip_addresses=ip_addresses,
            now=now,
            lifetime=lifetime,
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Bundle(ca=self.trusted(), cert=chain, key=private)

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        spiffe_id: str,
        *,
        dns_names: Sequence[str] = (),
        ip_addresses: Sequence[str] = (),
        now: datetime,
        lifetime: timedelta,
    ) -> bytes:
        """Return a certificate for a key, and the intermediate one if there is one, PEM.

        `spiffe_id` is an URI such as `spiffe://thalweg/region/eu-frankfurt/node/eu-frankfurt-1`. The certificate
        ends with the authority at the latest. Raises ValueError for another kind of URI, or for a malformed address.
        """
        if not spiffe_id.startswith("spiffe://") or not spiffe_id.isascii():
            raise ValueError(f"{spiffe_id!r} is not a SPIFFE ID: it has to begin with spiffe://")
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe_id)]
        names += [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ip_address(address)) for address in ip_addresses]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        ends = [one.not_valid_after_utc for one in (self.certificate, self.cross) if one]
        certificate = (
            # No subject: the SPIFFE ID is the name. RFC 5280, 4.2.1.6 wants the SAN to be critical then.
            _builder(
                x509.Name([]),
                self.certificate.subject,
                public_key,
                now,
                min(lifetime, min(ends) - now),
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_issued_by(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _pem(certificate, self.cross)


def pin_of(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's SubjectPublicKeyInfo (as in RFC 7469, 2.4), base64url without padding.

    The key and not the certificate: an authority that renews its certificate stays the same one.
    """
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.urlsafe_b64encode(hashlib.sha256(spki).digest()).rstrip(b"=").decode()


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, from its first byte on. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # the mode above only counts for a new file
        file.write(content)


def replace_private(path: Path, content: bytes) -> None:
    """Replace a file in one step with one that only its owner may read: a crash leaves the one before.

    Raises OSError.
    """
    fresh = path.with_name(f".{path.name}.new")
    write_private(fresh, content)
    fresh.replace(path)


def _pem(*certificates: x509.Certificate | None) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates if one)


def _sign_authority(
    public_key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Sign an authority's certificate. Between it and an end entity there is one more at most: the next authority's."""
    return (
        _builder(subject, issuer, public_key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_issued_by(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _issued_by(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
