"""Master secrets that have always been there."""

from controlplane.core.turn import TurnMasters


class SteadyTurn:
    """A TurnKeeper whose secrets a test may exchange."""

    def __init__(self, *secrets: bytes, since: float = 0.0) -> None:
        self.now = TurnMasters(secrets, since)

    def masters(self) -> TurnMasters:
        return self.now
