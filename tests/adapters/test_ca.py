import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from controlplane.adapters.ca import CertificateAuthority

NOW = datetime.now(UTC)  # noqa: TID251 - TLS itself compares certificates with the wall clock
DAY = timedelta(days=1)
NODE = "spiffe://thalweg/region/eu-frankfurt/node/eu-frankfurt-1"


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("test", now=NOW, lifetime=DAY)


def test_a_certificate_says_who_where_and_what_for(authority: CertificateAuthority) -> None:
    bundle = authority.issue(
        NODE, dns_names=["localhost"], ip_addresses=["127.0.0.1"], now=NOW, lifetime=DAY
    )
    certificate = x509.load_pem_x509_certificate(bundle.cert)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [NODE]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(bundle.ca))


def test_a_certificate_ends_with_its_authority(authority: CertificateAuthority) -> None:
    bundle = authority.issue(NODE, now=NOW, lifetime=10 * DAY)
    ends = x509.load_pem_x509_certificate(bundle.cert).not_valid_after_utc
    assert ends == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize("uri", ["https://thalweg/x", "", "spiffe://thälweg/x"])
def test_only_spiffe_ids_are_names(authority: CertificateAuthority, uri: str) -> None:
    with pytest.raises(ValueError, match="SPIFFE"):
        authority.issue(uri, now=NOW, lifetime=DAY)


def test_a_malformed_address_is_refused(authority: CertificateAuthority) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.300"):
        authority.issue(NODE, ip_addresses=["127.0.0.300"], now=NOW, lifetime=DAY)


def test_files_are_for_their_owner_alone_even_when_they_existed(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_text("old")
    (tmp_path / "key.pem").chmod(0o644)
    authority.issue(NODE, now=NOW, lifetime=DAY).write(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"ca.pem": 0o600, "cert.pem": 0o600, "key.pem": 0o600}


async def test_two_processes_speak_mutual_tls_and_a_stranger_does_not(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    def make_context(
        purpose: ssl.Purpose, who: str, issuer: CertificateAuthority
    ) -> ssl.SSLContext:
        directory = tmp_path / who
        issuer.issue(
            f"spiffe://thalweg/{who}", ip_addresses=["127.0.0.1"], now=NOW, lifetime=DAY
        ).write(directory)
        made = ssl.create_default_context(purpose, cafile=directory / "ca.pem")
        made.load_cert_chain(directory / "cert.pem", directory / "key.pem")
        made.verify_mode = ssl.CERT_REQUIRED
        return made

    async def context(
        purpose: ssl.Purpose, who: str, issuer: CertificateAuthority
    ) -> ssl.SSLContext:
        return await asyncio.to_thread(make_context, purpose, who, issuer)

    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    stranger = CertificateAuthority.create("stranger", now=NOW, lifetime=DAY)
    serving = await context(ssl.Purpose.CLIENT_AUTH, "server", authority)
    async with await asyncio.start_server(hello, "127.0.0.1", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        client = await context(ssl.Purpose.SERVER_AUTH, "client", authority)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        assert await reader.read() == b"hello"
        writer.close()
        other = await context(ssl.Purpose.SERVER_AUTH, "other", stranger)
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=other)
