"""The only place of the control plane that reads the clock."""

import time


class SystemClock:
    """Wall time, so that replicas agree; see services.ports.Clock."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()  # noqa: TID251 - this is the Clock that everybody else is given
