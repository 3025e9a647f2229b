"""Who may begin a session on this node: the node itself is the authority, whatever anybody else remembers.

A token proves that the control plane chose this node; the epoch proves that it has not chosen another one
since. The highest epoch of each participant is kept for as long as memory allows.
"""

from collections import OrderedDict
from dataclasses import dataclass

REMEMBERED = 100_000
"""Participants whose highest epoch is kept, the latest ones: hundreds of times a node's capacity, 20 MB."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not."""

    code: str
    """"stale_epoch", "node_draining" or "node_full"."""
    detail: str


class Admission:
    """Remembers epochs and applies the rules."""

    def __init__(self) -> None:
        self._epochs: OrderedDict[tuple[str, str], int] = OrderedDict()

    def refusal(
        self,
        key: tuple[str, str],
        epoch: int,
        *,
        present: frozenset[tuple[str, str]],
        capacity: int,
        draining: bool,
    ) -> Refusal | None:
        """Return why the participant `key` (room, participant) with this epoch may not begin a session, or None.

        `present` are the participants that are here; they stay welcome on a node that is full or draining.
        """
        known = self._epochs.get(key, 0)
        if epoch < known:
            return Refusal(
                "stale_epoch", f"the token has epoch {epoch}, this node has seen {known}"
            )
        if key in present:
            return None
        if draining:
            return Refusal("node_draining", "this node takes no new participants")
        if len(present) >= capacity:
            return Refusal("node_full", f"{capacity} participants are here, and that is the limit")
        return None

    def admitted(self, key: tuple[str, str], epoch: int) -> None:
        """Note that sessions with this epoch may be here: lower ones are refused from now on."""
        self._epochs[key] = max(epoch, self._epochs.pop(key, 0))
        if len(self._epochs) > REMEMBERED:
            self._epochs.popitem(last=False)
