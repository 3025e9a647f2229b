"""A node's certificate over time: the token that brings the first one, and when to ask for the next."""

import re
from dataclasses import dataclass

RETRY_S = 30.0
RETRY_LONGEST_S = 600.0
"""Between attempts to renew: a third of a day's certificate is 8 hours, which is long enough for anybody to look."""

_TOKEN = re.compile(r"twjoin\.[A-Za-z0-9_-]{8,32}\.[A-Za-z0-9_-]{32,64}\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True, repr=False)
class JoinToken:
    """A one-time token as the operator got it."""

    text: str
    pin: str
    """SHA-256 of the authority's SubjectPublicKeyInfo, base64url: whom to believe that it is the control plane."""

    def __repr__(self) -> str:
        """Return nothing that would enrol anybody."""
        return "JoinToken(…)"


def parse_join_token(text: str) -> JoinToken:
    """Return a token. Raises ValueError without repeating the text."""
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise ValueError("it is no join token: `thalweg node token create` prints one, twjoin.…")
    return JoinToken(match[0], match[1])


def renew_at(begins_at: float, ends_at: float, dice: float) -> float:
    """Return when to ask for the next certificate, in seconds since 1970; `dice` is uniform in [0, 1).

    At two thirds of its life, up to a tenth of it earlier: nodes that were made together do not come as one.
    """
    life = ends_at - begins_at
    return begins_at + life * (2 / 3 - dice / 10)


def retry_s(failures: int, dice: float) -> float:
    """Return seconds to wait after so many failures in a row, half of it drawn by `dice`."""
    ceiling = min(RETRY_LONGEST_S, RETRY_S * 2.0 ** min(failures, 10))
    return ceiling * (0.5 + dice / 2)
