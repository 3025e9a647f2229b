"""The built-in authority: what it reads from strangers, and what it keeps on disk."""

import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from controlplane.adapters import authority
from controlplane.adapters.authority import Issuer
from controlplane.adapters.ca import pin_of
from controlplane.core.enrolment import SigningRequest
from controlplane.errors import ConflictError, InvalidInputError, NotFoundError

NOW = datetime.now(UTC)  # noqa: TID251
NODE = "spiffe://thalweg/region/eu-frankfurt/node/fra1"
P256 = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    directory = tmp_path_factory.mktemp("ca")
    authority.create(directory, now=NOW)
    return Issuer(directory)


def request(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = P256,
    *names: x509.GeneralName,
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def request_with(names: bytes) -> bytes:
    """Return a request whose alternative names are these bytes."""
    names_oid = x509.SubjectAlternativeName.oid
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.UnrecognizedExtension(names_oid, names), critical=False)
    return builder.sign(P256, hashes.SHA256()).public_bytes(Encoding.DER)


def pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


GOOD = request(P256, x509.DNSName("fra1.example.net"))


def test_a_request_is_read(issuer: Issuer) -> None:
    found = issuer.read(pem(GOOD))
    assert (found.dns_names, found.ip_addresses) == (("fra1.example.net",), ())


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (request(rsa.generate_private_key(65537, 2048)), "not on the curve"),
        (request(ec.generate_private_key(ec.SECP384R1())), "not on the curve"),
        (request(ed25519.Ed25519PrivateKey.generate()), "not on the curve"),
        (request(P256, *(x509.DNSName(f"n{number}.test") for number in range(11))), "more than 10"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "not by its key"),
        (request_with(bytes.fromhex("3002a300")), "x400Address"),
        (request_with(bytes.fromhex("3002a500")), "EDIPartyName"),
    ],
)
def test_a_request_that_is_refused(issuer: Issuer, der: bytes, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        issuer.read(pem(der))


@given(st.binary(max_size=400), st.integers(0, len(GOOD)), st.integers(0, 60))
def test_whatever_comes_is_read_or_refused(
    issuer: Issuer, junk: bytes, place: int, gap: int
) -> None:
    for der in (junk, GOOD[:place] + junk[:8] + GOOD[place + gap :]):
        with suppress(InvalidInputError):
            assert isinstance(issuer.read(pem(der)), SigningRequest)


@given(st.text(max_size=300))
def test_whatever_text_comes_is_refused(issuer: Issuer, text: str) -> None:
    with pytest.raises(InvalidInputError):
        issuer.read(text)


def test_what_is_signed_says_what_was_asked_for_and_no_more(issuer: Issuer) -> None:
    now = NOW.timestamp()
    wanted = issuer.read(pem(request(P256, x509.UniformResourceIdentifier("spiffe://x/y"))))
    issued = issuer.sign(wanted, NODE, now=now)
    [leaf] = x509.load_pem_x509_certificates(issued.chain_pem.encode())
    [root] = x509.load_pem_x509_certificates(issued.ca_pem.encode())
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [NODE]
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert issued.expires_at == pytest.approx(leaf.not_valid_after_utc.timestamp(), abs=1)
    assert pin_of(root) == issuer.pin()


def test_a_certificate_of_an_authority_that_took_over_hangs_on_both(tmp_path: Path) -> None:
    first = authority.create(tmp_path, now=NOW)
    second = authority.rotate(tmp_path, now=NOW)
    bundle = second.issue(NODE, now=NOW, lifetime=timedelta(days=1))
    leaf, cross = x509.load_pem_x509_certificates(bundle.cert)
    leaf.verify_directly_issued_by(second.certificate)
    leaf.verify_directly_issued_by(cross)
    cross.verify_directly_issued_by(first.certificate)
    assert x509.load_pem_x509_certificates(bundle.ca) == [second.certificate, first.certificate]
    loaded = authority.load(tmp_path)
    assert (loaded.certificate, loaded.cross, loaded.previous) == (
        second.certificate,
        cross,
        first.certificate,
    )


def test_an_authority_is_never_overwritten_and_never_read_from_where_all_can_see(
    tmp_path: Path,
) -> None:
    with pytest.raises(NotFoundError):
        authority.load(tmp_path)
    made = authority.create(tmp_path, now=NOW)
    with pytest.raises(ConflictError):
        authority.create(tmp_path, now=NOW)
    file = tmp_path / "authority.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    assert made.trusted() == (tmp_path / "ca.pem").read_bytes()
    file.chmod(0o604)
    with pytest.raises(InvalidInputError, match="everybody on this machine"):
        authority.load(tmp_path)


@pytest.mark.parametrize("damage", ["", "junk", "no key", "no certificate", "another key"])
def test_a_damaged_authority_is_refused(tmp_path: Path, damage: str) -> None:
    authority.create(tmp_path, now=NOW)
    file = tmp_path / "authority.pem"
    key, separator, certificate = file.read_text().partition("-----BEGIN CERTIFICATE")
    authority.create(tmp_path / "other", now=NOW)
    other = (tmp_path / "other" / "authority.pem").read_text().partition("-----BEGIN CERT")[0]
    texts = {"no key": separator + certificate, "no certificate": key}
    texts["another key"] = other + separator + certificate
    file.write_text(texts.get(damage, damage))
    with pytest.raises(InvalidInputError) as caught:
        authority.load(tmp_path)
    assert caught.value.code == "ca-invalid"
