"""A throw-away certificate authority, for `thalweg up` and for tests.

It signs certificates for the processes of one machine and keeps its key in memory only: when the process ends,
nobody can issue another one. A real deployment brings its own authority and certificates of the same form:

- one SPIFFE ID as URI SAN (X.509-SVID, exactly one per certificate): who the peer is;
- DNS and IP SANs: so that ordinary TLS clients accept the address they dialled (RFC 9525);
- serverAuth and clientAuth (RFC 5280, 4.2.1.12): every process listens and dials.
"""

import os
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
    """The authority's certificate: whom to trust."""
    cert: bytes
    """The process's own certificate."""
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
    """An EC P-256 key and its self-signed certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, name: str, *, now: datetime, lifetime: timedelta) -> Self:
        """Make a new authority called `name`; `now` has a time zone. It signs end entities only (path length 0)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key.public_key(), now, lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    def issue(
        self,
        spiffe_id: str,
        *,
        dns_names: Sequence[str] = (),
        ip_addresses: Sequence[str] = (),
        now: datetime,
        lifetime: timedelta,
    ) -> Bundle:
        """Make a key and sign a certificate for it.

        `spiffe_id` is an URI such as `spiffe://thalweg/region/eu-frankfurt/node/eu-frankfurt-1`. The certificate
        ends with the authority at the latest. Raises ValueError for another kind of URI, or for a malformed address.
        """
        if not spiffe_id.startswith("spiffe://") or not spiffe_id.isascii():
            raise ValueError(f"{spiffe_id!r} is not a SPIFFE ID: it has to begin with spiffe://")
        key = ec.generate_private_key(ec.SECP256R1())
        issuer_key_id = self.certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        ).value
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe_id)]
        names += [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ip_address(address)) for address in ip_addresses]
        lifetime = min(lifetime, self.certificate.not_valid_after_utc - now)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            # No subject: the SPIFFE ID is the name. RFC 5280, 4.2.1.6 wants the SAN to be critical then.
            _builder(x509.Name([]), self.certificate.subject, key.public_key(), now, lifetime)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return Bundle(
            ca=self.certificate.public_bytes(serialization.Encoding.PEM),
            cert=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, from its first byte on. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # the mode above only counts for a new file
        file.write(content)


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
