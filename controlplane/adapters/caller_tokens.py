"""Short JWTs by which callers say who they are, signed with keys of their own (RFC 7519, RFC 7515).

A JWK set (RFC 7517) names the public keys; the members `tenant` and `scopes` of each key say what its JWTs may. A JWT
is a bearer token for a minute at most, which is why its `jti` need not be remembered: within that time it may be used
again, as an API key may, and what it can change is idempotent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jwt

from controlplane.core.identity import TENANT_SCOPES, Caller, parse_grant
from controlplane.errors import InvalidInputError, UnauthenticatedError

AUDIENCE = "thalweg"

MAX_LIFETIME_S = 60
"""Between `iat` and `exp`: a stolen one is soon worth nothing."""

CLOCK_SKEW_S = 5
"""Between the signer's clock and ours; NTP keeps servers well within it."""

FOREVER_S = 1e12
"""Times are before the year 33658; greater numbers, infinite ones and those that are none are no times."""

MAX_KEYS = 10_000
"""In one set."""

MAX_CHECKED = 1024
"""Tokens that are remembered as genuine: a signature takes 150 µs, and a caller may use its token for a minute."""

_ALGORITHMS: Mapping[tuple[object, object], str] = {
    ("OKP", "Ed25519"): "EdDSA",
    ("EC", "P-256"): "ES256",
}
"""(kty, crv) → the one algorithm of such a key. The token's header chooses the key, never the algorithm."""

_HINT = (
    f"sign it with EdDSA or ES256, aud {AUDIENCE}, iat, and exp at most {MAX_LIFETIME_S} s later"
)


@dataclass(frozen=True, slots=True)
class _Signer:
    key: jwt.PyJWK
    caller: Caller


class CallerTokens:
    """Tells callers apart by the keys that signed their JWTs."""

    def __init__(self, signers: Mapping[str, _Signer]) -> None:
        self._signers = signers
        self.callers = frozenset(signer.caller for signer in signers.values())
        self._checked = lru_cache(MAX_CHECKED)(self._check)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._signers)

    @classmethod
    def parse(cls, text: str) -> "CallerTokens":
        """Return the signers of a JWK set. Raises InvalidInputError ("jwks-invalid")."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _invalid(f"not JSON: {error}") from error
        keys = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_KEYS:
            raise _invalid(f"`keys` is no list of 1 to {MAX_KEYS} keys (RFC 7517, section 5)")
        signers: dict[str, _Signer] = {}
        for index, member in enumerate(keys):
            try:
                signer = _signer(member)
            except InvalidInputError as error:
                raise _invalid(f"keys[{index}]: {error.detail}") from error
            if signer.caller.name in signers:
                raise _invalid(f"keys[{index}]: the kid {signer.caller.name} is there twice")
            signers[signer.caller.name] = signer
        return cls(signers)

    def caller(self, token: str, *, now: float) -> Caller:
        """Return who signed this. `now` is in seconds since 1970.

        Raises UnauthenticatedError ("jwt-malformed", "jwt-unknown-key", "jwt-forged", "jwt-wrong-audience",
        "jwt-expired", "jwt-not-yet-valid", "jwt-too-long-lived").
        """
        caller, claims = self._checked(token)
        _check_times(claims, now)
        return caller

    def _check(self, token: str) -> tuple[Caller, Mapping[str, Any]]:
        """Check all of a token but its times, which is what costs."""
        if not token.isascii():
            raise _refused("jwt-malformed", "this is no JWT: it is not ASCII")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError) as error:  # a header can be nested deeply
            raise _refused("jwt-malformed", f"this is no JWT: {error}") from error
        kid = header.get("kid")
        signer = self._signers.get(kid) if isinstance(kid, str) else None
        if signer is None:
            raise _refused("jwt-unknown-key", "its kid is none of the --jwks-file")
        if "crit" in header:  # we know no extension (RFC 7515, section 4.1.11)
            raise _refused("jwt-malformed", "its header has critical extensions")
        return signer.caller, _verified(token, signer.key)


NO_TOKENS = CallerTokens({})


def _verified(token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
    """Return the claims if signature and audience are right. Times are ours: PyJWT would ask the system's clock."""
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=AUDIENCE,
            options={
                "require": ["exp", "iat", "aud"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except jwt.InvalidSignatureError as error:
        raise _refused("jwt-forged", "its signature is not that of its key") from error
    except jwt.InvalidAudienceError as error:
        raise _refused("jwt-wrong-audience", f"it is not for {AUDIENCE}") from error
    except (jwt.PyJWTError, RecursionError) as error:
        raise _refused("jwt-malformed", f"it cannot be used: {error}") from error


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    iat, exp = _seconds(claims["iat"]), _seconds(claims["exp"])
    begins = max(iat, _seconds(claims.get("nbf", iat)))
    if begins > now + CLOCK_SKEW_S:
        raise _refused("jwt-not-yet-valid", f"it is good in {begins - now:.0f} s; check the clocks")
    if exp - iat > MAX_LIFETIME_S:
        detail = f"it is good for {exp - iat:.0f} s, at most {MAX_LIFETIME_S} are allowed"
        raise _refused("jwt-too-long-lived", detail)
    if exp <= now - CLOCK_SKEW_S:
        raise _refused("jwt-expired", f"it expired {now - exp:.0f} s ago")


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < FOREVER_S:
        return value
    raise _refused("jwt-malformed", "iat, exp and nbf are numbers (RFC 7519, section 2)")


def _signer(member: object) -> _Signer:
    if not isinstance(member, dict):
        raise _invalid("it is no object")
    if "d" in member or "k" in member:
        raise _invalid("it holds a private key; give the public one, and replace the pair")
    kid = member.get("kid")
    if not (isinstance(kid, str) and 1 <= len(kid) <= 64 and kid.isprintable()):
        raise _invalid("`kid` is missing, or not 1 to 64 characters")
    kind = member.get("kty"), member.get("crv")
    algorithm = _ALGORITHMS.get(kind) if all(isinstance(one, str) for one in kind) else None
    if algorithm is None or member.get("alg", algorithm) != algorithm:
        known = ", ".join(f"{kty} {crv} ({alg})" for (kty, crv), alg in _ALGORITHMS.items())
        raise _invalid(f"its kty, crv and alg are none of {known}")
    tenant, scopes = member.get("tenant"), member.get("scopes", sorted(TENANT_SCOPES))
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise _invalid("`scopes` is no list of strings")
    if not isinstance(tenant, str | None):
        raise _invalid("`tenant` is no string")
    granted = parse_grant(tenant, scopes)
    try:
        key = jwt.PyJWK(member, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise _invalid(f"it is no usable key: {error}") from error
    return _Signer(key, Caller(kid, *granted))


def _invalid(detail: str) -> InvalidInputError:
    hint = 'a key is {"kid", "kty", "crv", "x", …, "tenant", "scopes"}'
    return InvalidInputError("jwks-invalid", detail, hint)


def _refused(code: str, detail: str) -> UnauthenticatedError:
    return UnauthenticatedError(code, detail, _HINT)
