"""Which key signs participant tokens, and which ones nodes have to know, while operators replace them.

A node that meets a key it does not know refuses the token. So a key is published before it signs, and goes on being
published until the last token that it signed has ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from controlplane.core.tokens import CLOCK_SKEW_S, TOKEN_TTL_S

PUBLISH_LEAD_S = 15.0
"""Two rhythms of snapshots (5 s), and what it takes other replicas to read their files: 2 s each."""

RETIRE_S = TOKEN_TTL_S + CLOCK_SKEW_S + PUBLISH_LEAD_S
"""From a key's last signature to the end of its publication."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Key ids; times are seconds since 1970."""

    signing: str
    published_at: Mapping[str, float]
    """Every key that nodes have to know, and since when they are told."""
    leaving: Mapping[str, float]
    """Those of them that are wanted no more, and until when they are told."""

    @classmethod
    def of(cls, wanted: Sequence[str]) -> Self:
        """Return the ring of a process that starts: the first of its keys signs. A session begins with a snapshot."""
        return cls(wanted[0], dict.fromkeys(wanted, 0.0), {})

    def turn(self, wanted: Sequence[str], now: float) -> "KeyRing":
        """Return the ring for the keys that operators want now, the one that should sign first."""
        published = dict(self.published_at)
        for kid in wanted:
            published.setdefault(kid, now)
        ready = now - published[wanted[0]] >= PUBLISH_LEAD_S
        signing = wanted[0] if ready else self.signing
        leaving = {
            kid: self.leaving.get(kid, now + RETIRE_S)
            for kid in published
            if kid != signing and kid not in wanted
        }
        for kid, until in list(leaving.items()):
            if until <= now:
                del leaving[kid], published[kid]
        return KeyRing(signing, published, leaving)
