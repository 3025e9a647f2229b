"""Participant tokens: JWS with EdDSA (RFC 8037) over JWT claims (RFC 7519)."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from controlplane.errors import InvalidInputError


class Ed25519Signer:
    """Signs with one Ed25519 key (RFC 8032) whose `kid` is its JWK thumbprint (RFC 7638)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._raw_public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.kid = thumbprint(key.public_key())

    @classmethod
    def generate(cls) -> "Ed25519Signer":
        """Return a signer with a fresh key; its tokens end with the process."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> "Ed25519Signer":
        """Return a signer with an unencrypted PKCS #8 key (RFC 5958) in PEM.

        Raises InvalidInputError ("signing-key-invalid").
        """
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _bad_key(str(error)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _bad_key(f"it is a {type(key).__name__}")
        return cls(key)

    @classmethod
    def from_file(cls, path: Path) -> "Ed25519Signer":
        """Return a signer with the key of a PEM file. Raises as `from_pem`, and OSError."""
        return cls.from_pem(path.read_bytes())

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return a compact JWS with EdDSA and a `kid` header."""
        return jwt.encode(dict(claims), self._key, algorithm="EdDSA", headers={"kid": self.kid})

    def public_keys(self) -> Mapping[str, bytes]:
        """Return kid → raw Ed25519 public key."""
        return {self.kid: self._raw_public}


def thumbprint(key: Ed25519PublicKey) -> str:
    """Return the JWK SHA-256 thumbprint of an Ed25519 key (RFC 7638, members as in RFC 8037 section 2)."""
    x = _base64url(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return _base64url(hashlib.sha256(members.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bad_key(why: str) -> InvalidInputError:
    return InvalidInputError(
        "signing-key-invalid",
        f"the signing key is no unencrypted Ed25519 key: {why}",
        "make one with `openssl genpkey -algorithm ed25519 -out signing.pem`",
    )
