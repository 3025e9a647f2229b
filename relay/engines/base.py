"""What moves media on a node, whatever it is made of.

An engine terminates clients' WebRTC: it adds the tracks they publish to the node's `Rooms` and attaches their
slots to the tracks in there, be they from here or from a trunk. Links between nodes are not its business:
trunks add the tracks that they bring to the same `Rooms`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.core.track import Track


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a verified token speaks for."""

    room: str
    participant: str
    epoch: int
    may_publish: bool


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """A WHIP or WHEP session that began."""

    session: str
    """Unguessable; the last part of the session's URL."""
    sdp: str


@dataclass(frozen=True, slots=True)
class ParticipantStatus:
    """One participant on this node."""

    room: str
    participant: str
    epoch: int
    tracks: tuple[Track, ...]
    """What it publishes."""
    slots: int
    rtt_ms: float | None
    """Smallest of the last round trips between node and client, as the node measured them; None while unknown."""


@dataclass(frozen=True, slots=True)
class SlotView:
    """What a slot shows now."""

    mid: str
    kind: str
    participant: str | None
    track: str | None
    hops: int
    origin_node: str | None


class MediaEngine(Protocol):
    """Terminates clients. Ids and tokens are checked before anything gets here."""

    async def run(self) -> None:
        """Serve until cancelled."""
        ...

    def publish(self, who: Identity, offer: str) -> SessionAnswer:
        """Answer a WHIP offer; a session that the participant publishes with already ends.

        Raises `InvalidInputError` (sdp_*) or `UnsupportedError` (unsupported_codec), having changed nothing.
        """
        ...

    def subscribe(self, who: Identity, offer: str, pinned: str | None) -> SessionAnswer:
        """Answer a WHEP offer, whose recvonly m-lines become slots; errors as in `publish`."""
        ...

    def owner(self, session: str) -> Identity | None:
        """Return whose session this is."""
        ...

    def end(self, session: str, reason: str) -> None:
        """End one session; an unknown one is ended already."""
        ...

    def end_participant(
        self, room: str, participant: str, *, up_to_epoch: int, reason: str
    ) -> None:
        """End the sessions of a participant with this epoch or a lower one."""
        ...

    def slot_views(self, session: str) -> AsyncIterator[Sequence[SlotView]]:
        """Yield what a WHEP session's slots show, at once, after every change and every 15 s, until it ends."""
        ...

    def participants(self) -> Sequence[ParticipantStatus]:
        """Return everybody who is here."""
        ...
