"""Who is at the other end is what the certificate says, and only if it says one thing."""

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from relay.transport.clock import wall
from relay.transport.tls import NodeIdentity, TlsFiles, node_identity, peer_identity

NODE = "spiffe://thalweg/region/eu-a/node/n1"


@pytest.mark.parametrize(
    "uris",
    [
        [],
        [NODE, NODE],
        [NODE, "spiffe://thalweg/client/x"],
        ["spiffe://thalweg/controlplane/a"],
        ["spiffe://elsewhere/region/eu-a/node/n1"],
        [NODE + "/more"],
        [NODE + "\n"],
        ["spiffe://thalweg/region/EU/node/n1"],
        ["spiffe://thalweg/region/eu/node/" + 64 * "n"],
        ["spiffe://thalweg/region//node/n1"],
    ],
)
def test_anything_but_one_node_is_nobody(uris: list[str]) -> None:
    assert node_identity(uris) is None


def test_one_node_is_that_node() -> None:
    assert node_identity([NODE]) == NodeIdentity("eu-a", "n1")


def test_the_caller_of_a_grpc_method() -> None:
    def names(*values: bytes) -> dict[str, list[bytes]]:
        return {"x509_subject_alternative_name": list(values)}

    identity = NodeIdentity("eu-a", "n1")
    assert peer_identity(names(b"localhost", NODE.encode(), b"127.0.0.1")) == identity
    assert peer_identity(names(b"localhost")) is None
    assert peer_identity(names(NODE.encode(), b"https://x")) is None
    assert peer_identity(names(b"\xff\xfe://")) is None
    assert peer_identity({}) is None


def certificate(*names: x509.GeneralName) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.fromtimestamp(wall(), datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_files_say_who_this_is(tmp_path: Path) -> None:
    uri = x509.UniformResourceIdentifier(NODE)
    for name, content in {
        "ca": b"ca",
        "cert": certificate(uri, x509.DNSName("x")),
        "key": b"key",
    }.items():
        (tmp_path / f"{name}.pem").write_bytes(content)
    files = TlsFiles.load(tmp_path)
    assert (files.ca, files.key) == (b"ca", b"key")
    assert files.identity() == NodeIdentity("eu-a", "n1")
    assert TlsFiles(b"", certificate(), b"").identity() is None
    with pytest.raises(ValueError, match="PEM"):
        TlsFiles(b"", b"rubbish", b"").identity()
    with pytest.raises(FileNotFoundError):
        TlsFiles.load(tmp_path / "nowhere")
