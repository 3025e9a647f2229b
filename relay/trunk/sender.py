"""The sending half of a trunk: offers the room's local tracks, and sends those that the far end wants.

Rules:

1. Only tracks that are published at this node are offered. What a trunk brought never leaves by a trunk, so that
   no packet can run in a circle.
2. A track is attached only while the far end wants it.
3. Repairs are answered from the track's cache, within a budget: the far end cannot make this node flood.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from guard.buckets import TokenBucket
from relay.core import rtcp
from relay.core.model import EXTENSION_IDS, MediaKind
from relay.core.rooms import Rooms
from relay.core.track import Track
from relay.trunk.model import (
    LinkStatus,
    Message,
    Offer,
    RoomDemand,
    RoomOffers,
    RoomSpeakers,
    TrunkState,
)
from relay.trunk.stream import TrunkStream
from relay.trunk.udp import Carrier, TrunkCounters

PAYLOAD_TYPES = {MediaKind.AUDIO: 96, MediaKind.VIDEO: 97}
"""On every trunk. The far end goes by SSRC; these only have to lie outside RTCP's (RFC 5761)."""

REPAIRS_PER_S = 1000.0
"""For one track: a stream of 20 Mbit/s (2000 packets/s) that loses 30 % and asks 1.5 times for each packet."""

REPAIR_BURST = 500
"""As many as one NACK can name."""

SPEAKING_S = 1.0
"""How long ago somebody may have been heard to count as speaking: the rhythm in which it is told."""


@dataclass(slots=True)
class LinkCounters:
    """Packets of one room to the far end, over all its trunks and tracks."""

    packets: int = 0
    repaired: int = 0
    lost: int = 0
    """Of streams that ended; the running ones are added when somebody asks."""


class OutgoingTrack:
    """One track on the trunk: a Sink while the far end wants it."""

    def __init__(
        self,
        track: Track,
        ssrc: int,
        carrier: Carrier,
        counters: LinkCounters,
        totals: TrunkCounters,
    ) -> None:
        self.track = track
        self.stream = TrunkStream(ssrc, PAYLOAD_TYPES[track.info.kind])
        self.flowing = False
        self.lost = 0
        """What the far end misses of the current stretch."""
        self._carrier = carrier
        self._counters = counters
        self._totals = totals
        self._budget = TokenBucket(REPAIRS_PER_S, REPAIR_BURST)

    @property
    def offer(self) -> Offer:
        """How the far end gets to know the track."""
        info = replace(self.track.info, hops=self.track.info.hops + 1)
        return Offer(info, self.stream.ssrc, EXTENSION_IDS)

    def start(self, now: float) -> None:
        """Send the track from now on, beginning with a key frame; twice is once."""
        if not self.flowing:
            self.flowing = True
            self.track.attach(self)
            self.track.request_keyframe(now)

    def stop(self) -> None:
        """Send nothing more."""
        if self.flowing:
            self.flowing = False
            self.track.detach(self)
            self.stream.pause()
            self._counters.lost += self.lost
            self.lost = 0

    def forward(self, track: Track, packet: bytes, now: float) -> None:
        """Send one packet (Sink)."""
        del track, now
        out = self.stream.rewrite(packet)
        if out is not None:
            self._counters.packets += 1
            self._totals.rtp_sent += 1
            self._carrier.send_rtp(out)

    def resend(self, sequences: Iterable[int], now: float) -> None:
        """Answer a NACK.

        What is not in the cache is on its way up the hop that lost it, and goes out when it comes.
        """
        for sequence in sequences:
            if not self._budget.passes(now):
                break
            packet = self.stream.resend(self.track, sequence)
            if packet is not None:
                self._carrier.send_rtp(packet)
                self._counters.repaired += 1
                self._totals.resent += 1

    def report(self, ntp_now_s: float, cname: str) -> None:
        """Send a sender report, once the publisher's clock is known: its clock in terms of ours."""
        timestamp = self.track.clock.timestamp_at(ntp_now_s)
        if not self.flowing or timestamp is None:
            return
        stream = self.stream
        report = rtcp.SenderReport(stream.ssrc, ntp_now_s, timestamp, stream.packets, stream.octets)
        self._carrier.send_rtcp(
            rtcp.sender_report(report) + rtcp.source_description(stream.ssrc, cname)
        )


class TrunkSender:
    """What this node sends to one other node."""

    def __init__(self, node: str, peer: str, rooms: Rooms, counters: TrunkCounters) -> None:
        self._node = node
        self._peer = peer
        self._rooms = rooms
        self._totals = counters
        self._counters: dict[str, LinkCounters] = {}
        """By room: the links that are wanted."""
        self._demand: dict[str, frozenset[str]] = {}
        """What the far end said of each room, linked or not: its orders may be newer than ours."""
        self._tracks: dict[str, dict[str, OutgoingTrack]] = {}
        self._by_ssrc: dict[int, OutgoingTrack] = {}
        self._carrier: Carrier | None = None
        self._next_ssrc = 0
        self._say: Callable[[Message], None] = lambda _: None

    # --- what the trunk tells it -----------------------------------------------------------------

    def link(self, rooms: frozenset[str], now: float) -> None:
        """Send tracks of these rooms and of no others."""
        gone = self._counters.keys() - rooms
        new = rooms - self._counters.keys()
        for room in gone:
            self._withdraw(room)
            del self._counters[room]
            self._forget_empty_demand(room)
        for room in new:
            self._counters[room] = LinkCounters()
            self.room_changed(room, now, announce=True)

    def begin(
        self, carrier: Carrier, say: Callable[[Message], None], first_ssrc: int, now: float
    ) -> None:
        """Use a fresh trunk: everything is offered anew, and nothing is known of what the far end wants."""
        self.end()
        self._carrier, self._say, self._next_ssrc = carrier, say, first_ssrc
        for room in self._counters:
            self.room_changed(room, now, announce=True)

    def end(self) -> None:
        """Stop: the trunk is down."""
        for room in list(self._tracks):
            self._withdraw(room)
        self._demand.clear()
        self._carrier = None
        self._say = lambda _: None

    def room_changed(self, room: str, now: float, *, announce: bool = False) -> None:
        """Offer what the room has now, if that changed or `announce` is set."""
        carrier = self._carrier
        if carrier is None or room not in self._counters:
            return
        local = {track.info.id: track for track in self._rooms.tracks(room) if not track.info.hops}
        known = self._tracks.setdefault(room, {})
        for track_id, outgoing in list(known.items()):
            if local.get(track_id) is not outgoing.track:
                self._drop(carrier, known.pop(track_id))
                announce = True
        for track_id, track in local.items():
            if track_id not in known:
                known[track_id] = self._add(carrier, track, self._counters[room])
                announce = True
        if announce:
            offers = tuple(outgoing.offer for outgoing in known.values())
            self._say(RoomOffers(room, offers))
            self._follow_demand(room, now)

    def demanded(self, demand: RoomDemand, now: float) -> None:
        """Take what the far end wants of a room."""
        self._demand[demand.room] = demand.tracks
        self._forget_empty_demand(demand.room)
        self._follow_demand(demand.room, now)

    def take_feedback(self, packet: rtcp.Nack | rtcp.KeyframeRequest, now: float) -> None:
        """Take a request about one of the streams."""
        outgoing = self._by_ssrc.get(packet.media)
        if outgoing is None or not outgoing.flowing:
            return
        if isinstance(packet, rtcp.Nack):
            outgoing.resend(packet.sequences, now)
        else:
            outgoing.track.request_keyframe(now)

    def take_report(self, block: rtcp.ReportBlock) -> None:
        """Take what the far end says of its reception of one stream."""
        outgoing = self._by_ssrc.get(block.ssrc)
        if outgoing is not None and outgoing.flowing:
            outgoing.lost = max(0, block.lost)

    def report(self, ntp_now_s: float) -> None:
        """Send the sender reports of what flows."""
        for outgoing in self._by_ssrc.values():
            outgoing.report(ntp_now_s, self._node)

    def tell_speakers(self, now: float) -> None:
        """Say in which tracks somebody was heard since the last time; silence is not worth a message."""
        for room, known in self._tracks.items():
            speaking = frozenset(
                track_id
                for track_id, outgoing in known.items()
                if now - outgoing.track.spoke_at < SPEAKING_S
            )
            if speaking:
                self._say(RoomSpeakers(room, speaking))

    # --- what others ask -------------------------------------------------------------------------

    def statuses(self, state: TrunkState) -> list[LinkStatus]:
        """Return how each link is doing over a trunk in this state.

        A link is up once the far end said what it wants of the room: then both ends know of it.
        """
        statuses = []
        for room, counters in self._counters.items():
            flowing = [o for o in self._tracks.get(room, {}).values() if o.flowing]
            agreed = state is not TrunkState.UP or room in self._demand
            statuses.append(
                LinkStatus(
                    room=room,
                    to_node=self._peer,
                    state=state if agreed else TrunkState.CONNECTING,
                    tracks=tuple(o.track.info.id for o in flowing),
                    packets=counters.packets,
                    repaired=counters.repaired,
                    lost=counters.lost + sum(o.lost for o in flowing),
                )
            )
        return statuses

    # ---------------------------------------------------------------------------------------------

    def _forget_empty_demand(self, room: str) -> None:
        """Of a room that is not linked: a trunk lives for months, and rooms come and go."""
        if room not in self._counters and not self._demand.get(room):
            self._demand.pop(room, None)

    def _follow_demand(self, room: str, now: float) -> None:
        wanted = self._demand.get(room, frozenset())
        for track_id, outgoing in self._tracks.get(room, {}).items():
            if track_id in wanted:
                outgoing.start(now)
            else:
                outgoing.stop()

    def _add(self, carrier: Carrier, track: Track, counters: LinkCounters) -> OutgoingTrack:
        outgoing = OutgoingTrack(track, self._next_ssrc, carrier, counters, self._totals)
        self._by_ssrc[self._next_ssrc] = outgoing
        self._next_ssrc = (self._next_ssrc + 1) & 0xFFFFFFFF  # never again under this trunk's key
        return outgoing

    def _drop(self, carrier: Carrier, outgoing: OutgoingTrack) -> None:
        outgoing.stop()
        del self._by_ssrc[outgoing.stream.ssrc]
        carrier.forget(outgoing.stream.ssrc)

    def _withdraw(self, room: str) -> None:
        known = self._tracks.pop(room, {})
        if self._carrier is not None:
            for outgoing in known.values():
                self._drop(self._carrier, outgoing)
            self._say(RoomOffers(room, ()))
