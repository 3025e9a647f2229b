"""The trunk to one other node: what both ends want and have, over one opened carrier after another.

A `Trunk` lives as long as links to the node are wanted. A `TrunkSession` is one opening of it: keys, carrier and
signalling; the newest replaces the one before. Everything that is said is complete in itself, so a new session
begins by saying it all.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from thalweg.v1 import trunk_pb2

from relay.core import rtcp
from relay.core.recent import RecentMinimum
from relay.core.reception import round_trip_s
from relay.core.rooms import Rooms
from relay.transport.clock import monotonic, ntp
from relay.trunk.model import (
    LinkStatus,
    Message,
    Ping,
    Pong,
    RoomDemand,
    RoomOffers,
    RoomSpeakers,
    TrunkError,
    TrunkState,
)
from relay.trunk.receiver import TrunkReceiver
from relay.trunk.sender import TrunkSender
from relay.trunk.udp import Carrier, TrunkCounters
from relay.trunk.wire import from_wire

log = structlog.get_logger("relay.trunk")

PING_INTERVAL_S = 1.0
"""Between signs of life."""

SILENCE_S = 3.0
"""Without any message the far end is gone: three pings, so that one lost TCP segment (RTO 0.2 s, doubling, so
1.4 s for three losses) does not end a trunk."""

UDP_SILENCE_S = 5.0
"""Without an authentic report on UDP the trunk carries nothing, however well the signalling works: a firewall
between two nodes has to show as a link that is down. Five reports, so that loss alone does not do it."""

DEFAULT_RTT_S = 0.1
"""Until a pong came; libwebrtc assumes the same."""

MAX_RTT_S = 5.0
"""A report that shows more is of another stream's clock."""


class Outbox:
    """Messages to the far end that wait to be sent.

    A newer one takes the place of one about the same thing: there are never more than three for each room, and two
    signs of life.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[type[Message], str], Message] = {}
        self._some = asyncio.Event()

    def put(self, message: Message) -> None:
        """Send this, soon."""
        room = message.room if isinstance(message, RoomOffers | RoomDemand | RoomSpeakers) else ""
        key = (type(message), room)
        self._waiting.pop(key, None)
        self._waiting[key] = message
        self._some.set()

    async def get(self) -> Message:
        """Wait for the next message, the oldest first, and take it out."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        return self._waiting.pop(next(iter(self._waiting)))


class TrunkSession:
    """One opening of a trunk."""

    def __init__(self, generation: int, carrier: Carrier, now: float) -> None:
        self.id = secrets.token_urlsafe(12)
        self.generation = generation
        self.carrier = carrier
        self.outbox = Outbox()
        self.opened_at = now
        self.heard_at = now
        self.udp_heard_at = now
        self.claimed = False
        """Signal was called for it."""
        self.heard = False
        """The far end said something."""
        self.over = asyncio.Event()
        """Set when another session took its place or the trunk is not wanted any more."""


class Trunk:
    """The trunk to one other node; also the CarrierUser of its sessions."""

    def __init__(self, node: str, peer: str, rooms: Rooms, counters: TrunkCounters) -> None:
        self.peer = peer
        self.state = TrunkState.CONNECTING
        self.session: TrunkSession | None = None
        self.sender = TrunkSender(node, peer, rooms, counters)
        self.receiver = TrunkReceiver(node, rooms, counters, monotonic)
        self.idle_since: float | None = None
        """Since when there is no link left."""
        self._rtt = RecentMinimum(count=10, max_age_s=10.0)
        self._pinged: tuple[int, float] | None = None
        self._complained = ""

    @property
    def linked(self) -> bool:
        """Whether any link uses the trunk."""
        return self.idle_since is None

    def rtt_s(self, now: float) -> float | None:
        """Return the round trip to the far end, the least of the last seconds."""
        return self._rtt.value(now)

    def link(self, outgoing: frozenset[str], incoming: frozenset[str], now: float) -> None:
        """Carry these rooms from here and to here, and no others."""
        if outgoing or incoming:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now
        self.sender.link(outgoing, now)
        self.receiver.link(incoming)

    def statuses(self) -> list[LinkStatus]:
        """Return how the links from here are doing."""
        return self.sender.statuses(self.state)

    # --- sessions --------------------------------------------------------------------------------

    def begin(self, session: TrunkSession) -> None:
        """Use this session instead of the one before. It is up when the far end is heard."""
        self.drop("replaced by a newer one")
        self.session = session

    def end(self, session: TrunkSession, why: str) -> None:
        """Note that this session is over; one that was replaced is already."""
        if self.session is session:
            self.drop(why)

    def drop(self, why: str) -> None:
        """End the session, if there is one."""
        session = self.session
        if session is None:
            return
        self.session = None
        session.over.set()
        session.carrier.close()
        if session.claimed:
            self._set_state(TrunkState.DOWN, why)
            self.sender.end()
            self.receiver.end(monotonic())

    def close(self, why: str) -> None:
        """End the trunk for good: its tracks leave at once."""
        self.drop(why)
        self.sender.link(frozenset(), monotonic())
        self.receiver.close()

    async def converse(
        self,
        session: TrunkSession,
        read: AsyncIterator[Message | None],
        write: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Talk over one session until it is over. Raises `TrunkError`, or what reading and writing raise."""
        session.claimed = True
        self._up(session)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(session, read))
                tasks.create_task(self._talk(session, write))
                tasks.create_task(self._keep_alive(session))
                tasks.create_task(self._until_over(session))
        except BaseExceptionGroup as group:
            # One conversation: the first that fails ends it, and the others say nothing more.
            raise group.exceptions[0] from None

    def understood(self, message: trunk_pb2.TrunkMessage) -> Message | None:
        """Return what the far end said, or None (with a line in the log) for what it has no business to say."""
        try:
            return from_wire(message, self.peer)
        except ValueError as error:
            self.complain(f"not understood: {error}")
            return None

    def _up(self, session: TrunkSession) -> None:
        now = monotonic()
        session.heard_at = session.udp_heard_at = now
        first_ssrc = secrets.randbits(32)
        self._set_state(TrunkState.UP, f"generation {session.generation}")
        self.receiver.begin(session.carrier, session.outbox.put, first_ssrc)
        self.sender.begin(session.carrier, session.outbox.put, (first_ssrc + 1) & 0xFFFFFFFF, now)

    async def _listen(self, session: TrunkSession, read: AsyncIterator[Message | None]) -> None:
        async for message in read:
            if self.session is not session:
                return
            session.heard, session.heard_at = True, monotonic()
            if message is not None:
                self._take(session, message, session.heard_at)
        raise TrunkError("the other node ended the signalling")

    async def _talk(
        self, session: TrunkSession, write: Callable[[Message], Awaitable[None]]
    ) -> None:
        while True:
            await write(await session.outbox.get())

    async def _keep_alive(self, session: TrunkSession) -> None:
        nonce = 0
        while True:
            now = monotonic()
            if now - session.heard_at >= SILENCE_S:
                raise TrunkError(f"nothing heard for {now - session.heard_at:.1f} s")
            if now - session.udp_heard_at >= UDP_SILENCE_S:
                host, port = session.carrier.remote
                raise TrunkError(
                    f"signalling works, but nothing comes over UDP from {host} (it receives on port {port}): "
                    "open the trunks' UDP ports in both directions"
                )
            nonce += 1
            self._pinged = (nonce, now)
            session.outbox.put(Ping(nonce))
            await asyncio.sleep(PING_INTERVAL_S)

    async def _until_over(self, session: TrunkSession) -> None:
        await session.over.wait()
        raise TrunkError("replaced by a newer one, or not wanted any more")

    def _take(self, session: TrunkSession, message: Message, now: float) -> None:
        match message:
            case RoomOffers():
                self.receiver.offered(message)
            case RoomDemand():
                self.sender.demanded(message, now)
            case RoomSpeakers():
                self.receiver.speaking(message, now)
            case Ping(nonce):
                session.outbox.put(Pong(nonce))
            case Pong(nonce):
                if self._pinged is not None and self._pinged[0] == nonce:
                    self._rtt.add(now - self._pinged[1], now)

    # --- media -----------------------------------------------------------------------------------

    def take_rtp(self, packet: bytes, now: float) -> None:
        """Take a packet that authenticated (CarrierUser)."""
        self.receiver.take_rtp(packet, now)

    def take_rtcp(self, packet: bytes, now: float) -> None:
        """Take an RTCP compound that authenticated (CarrierUser)."""
        if self.session is not None:
            self.session.udp_heard_at = now
        for part in rtcp.parse(packet):
            if isinstance(part, rtcp.Nack | rtcp.KeyframeRequest):
                self.sender.take_feedback(part, now)
                continue
            if isinstance(part, rtcp.SenderReport):
                self.receiver.take_report(part, now, ntp())
            for block in part.blocks:
                self.sender.take_report(block)
                rtt = round_trip_s(block, ntp())
                if rtt is not None and rtt < MAX_RTT_S:
                    self._rtt.add(rtt, now)

    def tick(self, now: float) -> None:
        """Repair what is missing."""
        rtt = self._rtt.value(now)
        self.receiver.tick(now, DEFAULT_RTT_S if rtt is None else rtt)

    def report(self, now: float) -> None:
        """Send sender and receiver reports, and say who speaks."""
        self.sender.tell_speakers(now)
        self.sender.report(ntp())
        self.receiver.report(now)

    # ---------------------------------------------------------------------------------------------

    def complain(self, why: str) -> None:
        """Log why the trunk cannot be opened or a message was not understood, once for each reason in a row."""
        if why != self._complained:
            self._complained = why
            log.warning("trunk trouble", peer=self.peer, why=why)

    def _set_state(self, state: TrunkState, why: str) -> None:
        if state is self.state:
            return
        self._complained = ""
        before, self.state = self.state, state
        log.info("trunk state", peer=self.peer, change=f"{before} -> {state}", why=why)
