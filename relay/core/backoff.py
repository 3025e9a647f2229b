"""How long to wait before trying again."""

FIRST_S = 0.2
"""Long enough not to be a busy loop, short enough that a restarted peer is found at once."""

LONGEST_S = 2.0
"""A peer that comes back is found within this; a fleet of 1000 nodes makes 500 attempts a second at most."""


def backoff_s(failures: int, dice: float) -> float:
    """Return seconds to wait after so many failures in a row; `dice` is uniform in [0, 1).

    Doubles from FIRST_S to LONGEST_S; half of it is drawn, so that those who lost one peer do not return as one.
    """
    ceiling = min(LONGEST_S, FIRST_S * 2.0 ** min(failures, 10))
    return ceiling * (0.5 + dice / 2)
