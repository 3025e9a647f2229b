"""What a participant token says (RFC 7519). The node checks it without asking anybody."""

from collections.abc import Sequence

from controlplane.core.model import Assignment, NodeId

ISSUER = "thalweg"

TOKEN_TTL_S = 60
"""Time to first use, enough for a slow start of camera and ICE. A session that began in time goes on without it."""

CLOCK_SKEW_S = 5
"""A node's clock may be this much behind the control plane's."""


def audience(assignment: Assignment) -> tuple[NodeId, ...]:
    """Return the nodes that the token is good for: the chosen one, then the fallbacks."""
    return (assignment.node, *assignment.decision.fallbacks)


def participant_claims(
    assignment: Assignment, aud: Sequence[NodeId], *, id_: str, now: float
) -> dict[str, object]:
    """Return the claims of a token that can be used for TOKEN_TTL_S seconds from `now`, once at each door of a node.

    `id_` is random, and no other token's.
    """
    issued = int(now)
    return {
        "iss": ISSUER,
        "jti": id_,
        "aud": list(aud),
        "sub": assignment.participant,
        "room": assignment.room,
        "epoch": assignment.epoch,
        "role": assignment.role.value,
        "iat": issued,
        "nbf": issued - CLOCK_SKEW_S,
        "exp": issued + TOKEN_TTL_S,
    }
