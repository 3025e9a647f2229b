"""The embedded engine: sessions of clients on one UDP port, in this process."""

import asyncio
import datetime
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import structlog

from relay.core import stun
from relay.core.rooms import Rooms
from relay.core.sdp import Offer, SdpError, parse_offer
from relay.core.sdp_answer import AnsweredMedia, answer
from relay.core.socket_filter import stun_only
from relay.engines.base import Identity, ParticipantStatus, SessionAnswer, SlotView
from relay.engines.embedded.dtls import Certificate
from relay.engines.embedded.peer import CNAME, Address, Peer
from relay.engines.embedded.port import Port
from relay.engines.embedded.publisher import Publisher
from relay.engines.embedded.subscriber import Subscriber
from relay.errors import InvalidInputError
from relay.transport.clock import monotonic, wall

log = structlog.get_logger("relay.engine")

TICK_S = 0.010
"""Rhythm of timers: the resolution of NACK guards and retries, which are 8 ms and more."""

HOUSEKEEPING_S = 0.25
"""Rhythm of looking for sessions that are over."""


MAX_SUBSCRIPTIONS = 32
"""WHEP sessions of one participant; the oldest ends for one more. An application that receives everybody on a
connection of their own has some; without a bound one token makes a node send any number of copies."""


@dataclass(slots=True)
class _Session:
    peer: Peer
    role: Publisher | Subscriber


@dataclass(slots=True)
class _Presence:
    """What one participant has here."""

    publisher: str | None = None
    subscribers: list[str] = field(default_factory=list)


class EmbeddedEngine:
    """Implements `MediaEngine`. `bind` is where the UDP port is, `advertise` where clients reach it."""

    def __init__(self, rooms: Rooms, *, node: str, bind: Address, advertise: Address) -> None:
        self.ready = asyncio.Event()
        """Set when the port is open."""
        self.port = Port()
        self._rooms = rooms
        self._node = node
        self._bind = bind
        self._advertise = advertise
        self._certificate = Certificate(datetime.datetime.fromtimestamp(wall(), datetime.UTC))
        self._sessions: dict[str, _Session] = {}
        self._present: dict[tuple[str, str], _Presence] = {}
        rooms.watch(self._room_changed)

    @property
    def address(self) -> Address:
        """Where clients send media and STUN; a port of 0 stands for the one that was bound."""
        host, port = self._advertise
        return host, port or self.port.local_address[1]

    async def run(self) -> None:
        """Open the port and serve until cancelled."""
        await self.port.open(self._bind, stun_only(stun.BINDING_REQUEST))
        self.ready.set()
        log.info("media port open", address=self.address)
        try:
            await self._tick()
        finally:
            for session in list(self._sessions):
                self.end(session, "the node stops")
            self.port.close()

    # --- MediaEngine -----------------------------------------------------------------------------

    def publish(self, who: Identity, offer: str) -> SessionAnswer:
        """Answer a WHIP offer; see `MediaEngine`."""
        parsed = _parse(offer)
        publisher = Publisher(who, self._node, self._rooms)
        media = publisher.accept(parsed)
        peer = Peer(parsed, self._certificate, publisher, self.port.send, monotonic())
        publisher.use(peer)
        session, sdp = self._begin(peer, publisher, media)
        before = self._presence(who).publisher
        if before is not None:
            self.end(before, "replaced by a newer session of the participant")
        self._presence(who).publisher = session
        return SessionAnswer(session, sdp)

    def subscribe(self, who: Identity, offer: str, pinned: str | None) -> SessionAnswer:
        """Answer a WHEP offer; see `MediaEngine`."""
        parsed = _parse(offer)
        subscriber = Subscriber(who, self._rooms, pinned)
        peer = Peer(parsed, self._certificate, subscriber, self.port.send, monotonic())
        media = subscriber.accept(parsed, peer)
        session, sdp = self._begin(peer, subscriber, media)
        subscribers = self._presence(who).subscribers
        subscribers.append(session)
        if len(subscribers) > MAX_SUBSCRIPTIONS:
            self.end(subscribers[0], "the participant began too many others")
        return SessionAnswer(session, sdp)

    def owner(self, session: str) -> Identity | None:
        """Return whose session this is."""
        known = self._sessions.get(session)
        return None if known is None else known.role.who

    def end(self, session: str, reason: str) -> None:
        """End one session."""
        known = self._sessions.pop(session, None)
        if known is None:
            return
        who = known.role.who
        presence = self._present.get((who.room, who.participant))
        if presence is not None:
            if presence.publisher == session:
                presence.publisher = None
            elif session in presence.subscribers:
                presence.subscribers.remove(session)
            if presence.publisher is None and not presence.subscribers:
                del self._present[who.room, who.participant]
        self.port.remove(known.peer)
        known.role.close()
        log.info("session ended", room=who.room, participant=who.participant, reason=reason)

    def end_participant(
        self, room: str, participant: str, *, up_to_epoch: int, reason: str
    ) -> None:
        """End the sessions of a participant with this epoch or a lower one."""
        presence = self._present.get((room, participant))
        if presence is None:
            return
        for session in [presence.publisher, *presence.subscribers]:
            owner = None if session is None else self.owner(session)
            if session is not None and owner is not None and owner.epoch <= up_to_epoch:
                self.end(session, reason)

    async def slot_views(self, session: str) -> AsyncIterator[Sequence[SlotView]]:
        """Yield what a WHEP session's slots show; nothing for any other session."""
        known = self._sessions.get(session)
        if known is not None and isinstance(known.role, Subscriber):
            async for views in known.role.views():
                yield views

    def participants(self) -> Sequence[ParticipantStatus]:
        """Return everybody who is here."""
        return [self._status(*key, presence) for key, presence in self._present.items()]

    # ---------------------------------------------------------------------------------------------

    def _begin(
        self, peer: Peer, role: Publisher | Subscriber, media: list[AnsweredMedia]
    ) -> tuple[str, str]:
        session = secrets.token_urlsafe(24)
        local = peer.local_transport(self.address, self._certificate.fingerprint, CNAME)
        sdp = answer(media, local)
        self._sessions[session] = _Session(peer, role)
        self.port.add(peer)
        who = role.who
        kind = type(role).__name__.lower()
        log.info(
            "session began", kind=kind, room=who.room, participant=who.participant, epoch=who.epoch
        )
        return session, sdp

    def _presence(self, who: Identity) -> _Presence:
        return self._present.setdefault((who.room, who.participant), _Presence())

    def _status(self, room: str, participant: str, presence: _Presence) -> ParticipantStatus:
        ids = [presence.publisher, *presence.subscribers]
        roles = [self._sessions[session].role for session in ids if session is not None]
        publishing = [role for role in roles if isinstance(role, Publisher)]
        receiving = [role for role in roles if isinstance(role, Subscriber)]
        return ParticipantStatus(
            room=room,
            participant=participant,
            epoch=max(role.who.epoch for role in roles),
            tracks=tuple(track for role in publishing for track in role.tracks),
            slots=sum(len(role.slots) for role in receiving),
            rtt_ms=_rtt_ms(roles, monotonic()),
        )

    def _room_changed(self, room: str) -> None:
        now = monotonic()
        for (present_room, _), presence in list(self._present.items()):
            if present_room == room:
                for session in presence.subscribers:
                    role = self._sessions[session].role
                    if isinstance(role, Subscriber):
                        role.refill(now)

    async def _tick(self) -> None:
        housekeeping_at = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = monotonic()
            for session in self._sessions.values():
                session.role.tick(now)
            if now >= housekeeping_at:
                housekeeping_at = now + HOUSEKEEPING_S
                self._keep_house(now)

    def _keep_house(self, now: float) -> None:
        for name, session in list(self._sessions.items()):
            session.peer.tick(now)
            reason = session.peer.why_over(now)
            if reason is not None:
                self.end(name, reason)


def _rtt_ms(roles: Sequence[Publisher | Subscriber], now: float) -> float | None:
    """Return the smallest of the sessions' figures: they share a path, and what is more met a queue."""
    measured = [role.rtt_s(now) for role in roles]
    reported = [role.reported_rtt_s(now) for role in roles if isinstance(role, Subscriber)]
    for source in (measured, reported):
        known = [rtt for rtt in source if rtt is not None]
        if known:
            return min(known) * 1000
    return None


def _parse(offer: str) -> Offer:
    try:
        return parse_offer(offer)
    except SdpError as error:
        raise InvalidInputError(
            error.code, error.detail, "send the SDP of RTCPeerConnection.createOffer() unchanged"
        ) from error
