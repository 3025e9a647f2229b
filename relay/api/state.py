"""What the node's doors share: whom it takes, and whether it takes anybody now."""

from relay.api.keys import TokenKeys
from relay.core.admission import Admission, UsedTokens
from relay.core.busy import BusyShare
from relay.transport.clock import wall


class NodeState:
    """The node's own word on admission. The agent writes what a snapshot says, app.py what the process does."""

    def __init__(self, node: str, capacity: int) -> None:
        self.node = node
        self.capacity = capacity
        """Participants that the node admits at most."""
        self.token_keys = TokenKeys()
        self.admission = Admission()
        self.used_tokens = UsedTokens(wall())
        self.draining = False
        """The control plane wants no new participants here."""
        self.serving = False
        """Every socket is bound."""
        self.stopping = False
        """The process is about to end."""
        self._busy = BusyShare()

    def load(self, participants: int, cpu_s: float, now: float) -> float:
        """Return the share of the node in use: of its places or of its core, whichever is more (see core/busy.py)."""
        return max(participants / self.capacity, self._busy.note(cpu_s, now))

    @property
    def not_ready(self) -> str | None:
        """Why the node should get no traffic now, or None when it should."""
        if self.stopping:
            return "stopping"
        if not self.serving:
            return "starting"
        if not self.token_keys.keys:
            return "no token keys yet: the control plane has not been heard since the node was made"
        return None
