"""Assignments as they are proposed to the store, which gives them their epochs."""

from dataclasses import replace

from controlplane.core.model import Assignment, Decision, Join
from controlplane.core.rtt import Rtts
from controlplane.core.tokens import TOKEN_TTL_S

LEASE_TO_FIRST_USE_S = float(TOKEN_TTL_S)
"""An assignment that nobody used is free again when its token can no longer be used."""


def seated(join: Join, decision: Decision, rtts: Rtts, *, network: str, now: float) -> Assignment:
    """Return a first place for somebody who joins."""
    return Assignment(
        room=join.room,
        participant=join.participant,
        session=join.session,
        role=join.role,
        node=decision.node,
        region=decision.region,
        epoch=0,
        assigned_at=now,
        expires_at=now + LEASE_TO_FIRST_USE_S,
        decision=decision,
        rtts=rtts,
        require=join.require,
        network=network,
        unreachable=join.exclude_nodes,
    )


def reseated(one: Assignment, decision: Decision, *, now: float) -> Assignment:
    """Return another place for the same session; whatever is known of it stays known."""
    return replace(
        one,
        node=decision.node,
        region=decision.region,
        assigned_at=now,
        expires_at=now + LEASE_TO_FIRST_USE_S,
        decision=decision,
        tracks=(),
        live=False,
    )
