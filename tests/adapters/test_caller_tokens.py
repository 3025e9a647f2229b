"""JWTs of callers: what is accepted, and every way in which one is refused."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from controlplane.adapters.caller_tokens import CLOCK_SKEW_S, MAX_LIFETIME_S, CallerTokens
from controlplane.core.identity import Caller, Scope
from controlplane.errors import InvalidInputError, UnauthenticatedError

NOW = 1_800_000_000.0
ED = Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())
OKP_ALGORITHM, EC_ALGORITHM = jwt.algorithms.OKPAlgorithm, jwt.algorithms.ECAlgorithm


def jwk(key: Any, kid: str, **members: Any) -> dict[str, Any]:
    algorithm = OKP_ALGORITHM if isinstance(key, Ed25519PrivateKey) else EC_ALGORITHM
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **members}


JWKS = {"keys": [jwk(ED, "ed", tenant="acme"), jwk(EC, "ec", scopes=["admin"], alg="ES256")]}
TOKENS = CallerTokens.parse(json.dumps(JWKS))


def signed(key: Any = ED, kid: str = "ed", alg: str = "EdDSA", **changes: Any) -> str:
    claims: dict[str, Any] = {"aud": "thalweg", "iat": NOW, "exp": NOW + MAX_LIFETIME_S} | changes
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None},
        key,
        algorithm=alg,
        headers={"kid": kid},
    )


def unsigned(header: dict[str, Any], **changes: Any) -> str:
    claims = {"aud": "thalweg", "iat": NOW, "exp": NOW + 30} | changes
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def test_the_key_says_who_it_is() -> None:
    assert len(TOKENS) == 2
    acme = Caller("ed", "acme", frozenset({Scope.JOIN, Scope.READ}))
    assert TOKENS.caller(signed(), now=NOW) == acme
    ops = Caller("ec", "default", frozenset({Scope.ADMIN}))
    assert TOKENS.caller(signed(EC, "ec", "ES256"), now=NOW) == ops
    assert TOKENS.caller(signed(aud=["x", "thalweg"], tenant="beta", jti="1"), now=NOW) == acme
    assert TOKENS.caller(signed(iat=NOW + CLOCK_SKEW_S, exp=NOW + 60), now=NOW) == acme
    assert TOKENS.caller(signed(exp=NOW - CLOCK_SKEW_S + 1, iat=NOW - 60), now=NOW) == acme


PUBLIC_PEM = ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PUBLIC_RAW = ED.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def hs256(key: bytes) -> str:
    """Return a token that is signed with a public key as if it were a shared secret."""
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    head = unsigned({"alg": "HS256", "typ": "JWT", "kid": "ed"}).rstrip(".")
    signature = base64.urlsafe_b64encode(hmac.sign(head.encode(), key)).rstrip(b"=").decode()
    return f"{head}.{signature}"


def changed() -> str:
    head, _, signature = signed().split(".")
    return ".".join((head, signed(exp=NOW + 59).split(".")[1], signature))


def test_a_token_that_was_good_ends_all_the_same() -> None:
    good = signed()
    assert TOKENS.caller(good, now=NOW) == TOKENS.caller(good, now=NOW + MAX_LIFETIME_S)
    with pytest.raises(UnauthenticatedError, match="expired"):
        TOKENS.caller(good, now=NOW + MAX_LIFETIME_S + CLOCK_SKEW_S)


FAULTS: dict[str, tuple[Callable[[], str], str]] = {
    "nothing": (lambda: "", "jwt-malformed"),
    "dots": (lambda: "..", "jwt-malformed"),
    "garbage": (lambda: "eyJ.eyJ.x", "jwt-malformed"),
    "not ASCII": (lambda: "eyJ☃.a.b", "jwt-malformed"),
    "surrogates": (lambda: "eyJ\udcff.a.b", "jwt-malformed"),
    "a header nested deeply": (
        lambda: base64.urlsafe_b64encode(b'{"":' + b"[" * 2900).decode().rstrip("=") + ".a.b",
        "jwt-malformed",
    ),
    "alg none": (lambda: unsigned({"alg": "none", "kid": "ed"}), "jwt-malformed"),
    "HS256 with the public key as PEM": (lambda: hs256(PUBLIC_PEM), "jwt-malformed"),
    "HS256 with the raw public key": (lambda: hs256(PUBLIC_RAW), "jwt-malformed"),
    "the algorithm of another key": (lambda: signed(EC, "ed", "ES256"), "jwt-malformed"),
    "no kid": (lambda: unsigned({"alg": "EdDSA"}), "jwt-unknown-key"),
    "another kid": (lambda: signed(kid="x"), "jwt-unknown-key"),
    "a kid that is no text": (lambda: unsigned({"alg": "EdDSA", "kid": 1}), "jwt-malformed"),
    "a critical extension": (
        lambda: unsigned({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": False}),
        "jwt-malformed",
    ),
    "another signer": (lambda: signed(Ed25519PrivateKey.generate()), "jwt-forged"),
    "a changed claim": (changed, "jwt-forged"),
    "no audience": (lambda: signed(aud=None), "jwt-malformed"),
    "another audience": (lambda: signed(aud="n1"), "jwt-wrong-audience"),
    "claims nested deeply": (
        lambda: jwt.api_jws.encode(b"[" * 2500, ED, "EdDSA", headers={"kid": "ed"}),
        "jwt-malformed",
    ),
    "no exp": (lambda: signed(exp=None), "jwt-malformed"),
    "no iat": (lambda: signed(iat=None), "jwt-malformed"),
    "exp is text": (lambda: signed(exp="x"), "jwt-malformed"),
    "exp is true": (lambda: signed(exp=True), "jwt-malformed"),
    "exp is endless": (lambda: signed(exp=1e400), "jwt-malformed"),
    "exp is beyond what a float holds": (lambda: signed(exp=10**400), "jwt-malformed"),
    "nbf is beyond what a float holds": (lambda: signed(nbf=-(10**400)), "jwt-malformed"),
    "nbf is text": (lambda: signed(nbf="x"), "jwt-malformed"),
    "expired": (lambda: signed(iat=NOW - 60, exp=NOW - CLOCK_SKEW_S), "jwt-expired"),
    "long expired": (lambda: signed(iat=0, exp=60), "jwt-expired"),
    "not yet": (lambda: signed(nbf=NOW + CLOCK_SKEW_S + 1), "jwt-not-yet-valid"),
    "issued later": (lambda: signed(iat=NOW + 6, exp=NOW + 20), "jwt-not-yet-valid"),
    "lives too long": (lambda: signed(exp=NOW + MAX_LIFETIME_S + 1), "jwt-too-long-lived"),
}


@pytest.mark.parametrize(("token", "code"), FAULTS.values(), ids=FAULTS)
def test_refusals(token: Callable[[], str], code: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        TOKENS.caller(token(), now=NOW)
    assert caught.value.code == code


@given(st.text() | st.lists(st.text("eyJ0-9A-Za-z_-=", max_size=30)).map(".".join))
def test_nothing_else_gets_out(token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        TOKENS.caller(token, now=NOW)


@given(st.integers(0, 2_000), st.booleans())
def test_a_mutated_token_is_no_token(place: int, is_longer: bool) -> None:
    token = signed()
    at = place % (token.rindex(".") + 1)
    broken = token[:at] + "A" * is_longer + ("B" if token[at] != "B" else "C") + token[at + 1 :]
    with pytest.raises(UnauthenticatedError):
        TOKENS.caller(broken, now=NOW)


RSA = jwt.algorithms.RSAAlgorithm.to_jwk(
    rsa.generate_private_key(65537, 2048).public_key(), as_dict=True
)
SECRET = OKP_ALGORITHM.to_jwk(ED, as_dict=True)
P384 = EC_ALGORITHM.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "`keys` is no list"),
        ({"keys": []}, "`keys` is no list"),
        ({"keys": [1]}, "keys[0]: it is no object"),
        ({"keys": [jwk(ED, "a"), jwk(EC, "a")]}, "keys[1]: the kid a is there twice"),
        ({"keys": [SECRET | {"kid": "a"}]}, "keys[0]: it holds a private key"),
        ({"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}, "keys[0]: it holds a private key"),
        ({"keys": [RSA | {"kid": "a"}]}, "keys[0]: its kty, crv and alg"),
        ({"keys": [P384 | {"kid": "a"}]}, "keys[0]: its kty, crv and alg"),
        ({"keys": [jwk(ED, "a", kty=[])]}, "keys[0]: its kty, crv and alg"),
        ({"keys": [jwk(ED, "a", crv={})]}, "keys[0]: its kty, crv and alg"),
        ({"keys": [jwk(ED, "a", alg="ES256")]}, "keys[0]: its kty, crv and alg"),
        ({"keys": [jwk(ED, "a", alg="none")]}, "keys[0]: its kty, crv and alg"),
        ({"keys": [jwk(ED, "")]}, "keys[0]: `kid`"),
        ({"keys": [jwk(ED, "a", x="AAAA")]}, "keys[0]: it is no usable key"),
        ({"keys": [jwk(EC, "a", y="AAAA")]}, "keys[0]: it is no usable key"),
        ({"keys": [jwk(ED, "a", tenant=1)]}, "keys[0]: `tenant`"),
        ({"keys": [jwk(ED, "a", tenant="A")]}, "keys[0]: 'A' is no tenant"),
        ({"keys": [jwk(ED, "a", scopes="join")]}, "keys[0]: `scopes`"),
        ({"keys": [jwk(ED, "a", scopes=["king"])]}, "keys[0]: 'king' is no scope"),
        ({"keys": [jwk(ED, "a", tenant="b", scopes=["admin"])]}, "keys[0]: the scope admin"),
    ],
)  # fmt: skip
def test_a_bad_set_is_refused(document: object, problem: str) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(InvalidInputError) as caught:
        CallerTokens.parse(text)
    assert caught.value.code == "jwks-invalid"
    assert caught.value.detail.startswith(problem)
