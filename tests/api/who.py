"""Callers for tests: signalling servers of two tenants, operators, and the same with JWTs."""

import base64
import hashlib
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.adapters.caller_tokens import CallerTokens
from controlplane.api.callers import Callers, Fixed
from controlplane.api.keys import ApiKeys

SCOPES = {
    "acme": "acme:join,read",
    "beta": "beta:join,read",
    "joiner": "default:join",
    "reader": "default:read",
    "plain": "default:join,read",
    "ops": "default:admin",
    "root": "default:join,read,admin",
}
"""Name, which is the key too → tenant and scopes."""

SIGNER = Ed25519PrivateKey.generate()


def jwks() -> dict[str, Any]:
    public = jwt.algorithms.OKPAlgorithm.to_jwk(SIGNER.public_key(), as_dict=True)
    members: list[dict[str, Any]] = [
        {"kid": "jwt-acme", "tenant": "acme"},
        {"kid": "jwt-reader", "scopes": ["read"]},
        {"kid": "jwt-root", "scopes": ["join", "read", "admin"]},
    ]
    return {"keys": [public | member for member in members]}


def callers() -> Callers:
    lines = [
        f"{name}:{hashlib.sha256(name.encode()).hexdigest()}:{granted}"
        for name, granted in SCOPES.items()
    ]
    keys = ApiKeys.parse("\n".join(lines))
    return Callers(Fixed(keys), Fixed(CallerTokens.parse(json.dumps(jwks()))))


def token(kid: str = "jwt-acme", *, alg: str = "EdDSA", key: Any = SIGNER, **changes: Any) -> str:
    """Return a JWT; `iat` and `exp` count from now, None leaves a claim out."""
    now = time.time()  # noqa: TID251  the server has the same clock
    claims: dict[str, Any] = {"aud": "thalweg", "iat": 0, "exp": 60} | changes
    for name in ("iat", "exp", "nbf"):
        if isinstance(claims.get(name), int | float):
            claims[name] += now
    said = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(said, key, algorithm=alg, headers={"kid": kid})


def encoded(*parts: object) -> str:
    """Return JSON parts as a JWT has them."""
    raw = (json.dumps(part).encode() for part in parts)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in raw)


def hs256(raw_public_key: bytes, header: dict[str, Any], said: dict[str, Any]) -> str:
    """Return a token signed with a public key, which everybody has, as if it were a shared secret."""
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    head = encoded({"alg": "HS256", **header}, said)
    signature = base64.urlsafe_b64encode(hmac.sign(head.encode(), raw_public_key))
    return f"{head}.{signature.rstrip(b'=').decode()}"
