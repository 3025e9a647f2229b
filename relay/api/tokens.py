"""Participant tokens: compact JWS with EdDSA (RFC 8037) that the control plane signs and every node verifies."""

from collections.abc import Mapping
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.errors import ForbiddenError, UnauthenticatedError
from relay.transport.clock import wall

ISSUER = "thalweg"

CLOCK_SKEW_S = 5
"""Between the signer's clock and ours; NTP keeps servers well within it."""

MAX_TOKEN = 4096
"""Characters. Ours are about 500."""

MAX_LIFE_S = 60
"""From now to a token's end. A node remembers used tokens for so long, so it takes none that live longer."""

MAX_ID = 64
"""Characters of a token's id."""

NEXT = "ask the signalling server for a new assignment"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a genuine token says."""

    room: str
    participant: str
    epoch: int
    role: str
    id: str
    """`jti`: unique to this token."""
    issued_at: float
    """`iat`, in seconds since 1970."""
    ends_at: float
    """Seconds since 1970, when no node accepts it any more."""


def verify(token: str, keys: Mapping[str, bytes], node: str, *, running: bool = False) -> Claims:
    """Return the claims of a token that is good for `node`.

    `running` is for requests about a session that began in time: its token may have expired since.
    Raises `UnauthenticatedError` (`token_malformed`, `token_unknown_key`, `token_forged`, `token_expired`)
    or `ForbiddenError` (`token_for_other_node`).
    """
    if len(token) > MAX_TOKEN or not token.isascii():
        raise UnauthenticatedError(
            "token_malformed", f"a token has at most {MAX_TOKEN} characters, all ASCII", NEXT
        )
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        key = keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise UnauthenticatedError(
                "token_unknown_key", "no key of this node's made the signature", NEXT
            )
        payload = jwt.decode(
            token,
            Ed25519PublicKey.from_public_bytes(key),
            algorithms=["EdDSA"],
            audience=node,
            issuer=ISSUER,
            leeway=CLOCK_SKEW_S,
            options={
                "require": ["exp", "iat", "nbf", "aud", "sub", "iss", "jti"],
                "verify_exp": not running,
            },
        )
        return _claims(payload)
    except jwt.ExpiredSignatureError as error:
        raise UnauthenticatedError(
            "token_expired", "the token was not used in time", NEXT
        ) from error
    except jwt.InvalidSignatureError as error:
        raise UnauthenticatedError("token_forged", "the signature is not ours", NEXT) from error
    except jwt.InvalidAudienceError as error:
        raise ForbiddenError(
            "token_for_other_node", f"the token is not for node {node}", NEXT
        ) from error
    except jwt.PyJWTError as error:
        raise UnauthenticatedError(
            "token_malformed", f"the token cannot be used: {error}", NEXT
        ) from error


def _claims(payload: Mapping[str, object]) -> Claims:
    room, participant = payload.get("room"), payload.get("sub")
    epoch, role = payload.get("epoch"), payload.get("role")
    jti, iat, exp = payload.get("jti"), payload.get("iat"), payload.get("exp")
    if not isinstance(exp, int | float) or exp > wall() + MAX_LIFE_S + CLOCK_SKEW_S:
        raise UnauthenticatedError(
            "token_malformed", f"the token lives longer than {MAX_LIFE_S} s", NEXT
        )
    if (
        isinstance(room, str)
        and isinstance(participant, str)
        and isinstance(epoch, int)
        and not isinstance(epoch, bool)
        and epoch > 0
        and role in ("publisher", "viewer")
        and isinstance(jti, str)
        and 0 < len(jti) <= MAX_ID
        and isinstance(iat, int | float)
    ):
        return Claims(room, participant, epoch, str(role), jti, iat, exp + CLOCK_SKEW_S)
    raise UnauthenticatedError(
        "token_malformed", "the token lacks room, sub, epoch, role or jti", NEXT
    )
