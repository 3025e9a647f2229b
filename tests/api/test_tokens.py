"""Participant tokens."""

import base64
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from controlplane.adapters.tokens import Ed25519Signer, thumbprint
from controlplane.errors import InvalidInputError


def pem(key: Ed25519PrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_the_key_id_is_the_thumbprint_of_rfc_8037_appendix_a_3() -> None:
    x = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    expected = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert thumbprint(Ed25519PublicKey.from_public_bytes(x)) == expected


def test_what_is_signed_verifies_with_the_published_key() -> None:
    signer = Ed25519Signer.generate()
    token = signer.sign({"sub": "ana", "aud": ["n1"], "exp": 4_000_000_000})
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["kid"]) == ("EdDSA", signer.kid)
    key = Ed25519PublicKey.from_public_bytes(signer.public_keys()[header["kid"]])
    assert jwt.decode(token, key, algorithms=["EdDSA"], audience="n1")["sub"] == "ana"


def test_the_same_file_gives_the_same_key_id(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(Ed25519PrivateKey.generate()))
    assert Ed25519Signer.from_file(path).kid == Ed25519Signer.from_file(path).kid


@pytest.mark.parametrize("content", [b"", b"text", pem(rsa.generate_private_key(65537, 2048))])
def test_another_key_is_refused_without_repeating_it(content: bytes) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Ed25519Signer.from_pem(content)
    assert caught.value.code == "signing-key-invalid"
    assert "openssl genpkey" in caught.value.hint
