"""The receiving half of a trunk: the far end's tracks as tracks of this node, repaired and wanted on demand.

Rules:

1. A track that is published here is never replaced by one that a trunk brings. Between trunks the newest offer
   has the place; who lost it takes it again when it is free.
2. Only what has a sink here is asked for, and only that is repaired.
3. When the trunk goes down the tracks stay for GRACE_S: a trunk that comes back finds the viewers still there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relay.core import rtcp
from relay.core.gaps import Gaps
from relay.core.keyframes import PLI_INTERVAL_S, begins_keyframe
from relay.core.model import EXTENSION_IDS, MediaKind, extension_map
from relay.core.reception import Reception, SenderTimeline
from relay.core.rooms import Rooms
from relay.core.rtp import parse, remap_extensions
from relay.core.track import Track
from relay.trunk.model import Message, Offer, RoomDemand, RoomOffers, RoomSpeakers
from relay.trunk.udp import Carrier, TrunkCounters

GRACE_S = 4.0
"""From the end of a trunk to the removal of its tracks: 3 s to notice at the other end, and one new attempt."""

MAX_BLOCKS = 31
"""Report blocks in one receiver report (RFC 3550, section 6.4.2)."""

MAX_PLIS = 10
"""A key frame that was asked for so often, half a second apart, will not come by asking again."""


@dataclass(slots=True)
class _Awaited:
    """A key frame that was asked for."""

    ask_again_at: float
    asked: int = 1


class IncomingTrack:
    """One offered track: where its packets come in."""

    def __init__(self, offer: Offer, track: Track) -> None:
        self.offer = offer
        self.track = track
        self.awaited: _Awaited | None = None
        self._same_ids = all(
            EXTENSION_IDS.get(uri) == number for uri, number in offer.extensions.items()
        )
        self._extension_map = extension_map(offer.extensions, EXTENSION_IDS)

    def take(self, packet: bytes, now: float) -> bool:
        """Give a packet to the track; return whether it was a repair."""
        header = parse(packet)
        if header is None:
            return False
        if self.awaited is not None:
            payload = packet[header.payload_start : header.payload_start + 64]
            if begins_keyframe(self.track.info.codec.name, payload):
                self.awaited = None
        if not self._same_ids:
            packet = remap_extensions(packet, self._extension_map)
        repaired = self.track.gaps.asked(header.sequence)
        return self.track.receive(packet, now, repaired=repaired) and repaired


class TrunkReceiver:
    """What this node takes from one other node; the Upstream of those tracks."""

    def __init__(
        self, node: str, rooms: Rooms, counters: TrunkCounters, clock: Callable[[], float]
    ) -> None:
        self._node = node
        self._counters = counters
        self._rooms = rooms
        self._clock = clock
        self._linked: frozenset[str] = frozenset()
        self._offers: dict[str, tuple[Offer, ...]] = {}
        """What the far end said of each room, linked or not: its orders may be newer than ours."""
        self._tracks: dict[str, dict[str, IncomingTrack]] = {}
        self._by_ssrc: dict[int, IncomingTrack] = {}
        self._stale: dict[str, float] = {}
        """Room → when its tracks, which a trunk before this one brought, are removed."""
        self._timeline = SenderTimeline()
        self._carrier: Carrier | None = None
        self._ssrc = 0
        self._say: Callable[[Message], None] = lambda _: None

    # --- what the trunk tells it -----------------------------------------------------------------

    def link(self, rooms: frozenset[str]) -> None:
        """Take tracks of these rooms and of no others."""
        before, self._linked = self._linked, rooms
        for room in before - rooms:
            self._replace(room, ())
            self._say(RoomDemand(room, frozenset()))
        for room in rooms - before:
            self._replace(room, self._offers.get(room, ()))
            self._demand(room)

    def begin(self, carrier: Carrier, say: Callable[[Message], None], ssrc: int) -> None:
        """Use a fresh trunk, with `ssrc` as the sender of this end's RTCP; the far end will offer everything anew."""
        self.end(self._clock())
        self._carrier, self._say, self._ssrc = carrier, say, ssrc
        self._timeline = SenderTimeline()  # the far end may be another process with another clock
        for room in self._linked:
            self._demand(room)

    def end(self, now: float) -> None:
        """Note that the trunk is down."""
        self._carrier = None
        self._say = lambda _: None
        self._offers.clear()
        self._by_ssrc.clear()
        for room in self._tracks:
            self._stale.setdefault(room, now + GRACE_S)

    def close(self) -> None:
        """Remove all tracks at once: the trunk is not wanted any more."""
        self.end(self._clock())
        self.link(frozenset())

    def offered(self, message: RoomOffers) -> None:
        """Take the tracks that the far end offers of a room."""
        before = self._offers.pop(message.room, ())
        if message.offers:
            self._offers[message.room] = message.offers
        # Not when the link goes: if it comes back, the far end may go on with the same SSRC, and whoever has
        # forgotten how often its numbers wrapped can open no packet of it any more.
        for ssrc in {offer.ssrc for offer in before} - {offer.ssrc for offer in message.offers}:
            if self._carrier is not None:
                self._carrier.forget_received(ssrc)
        if message.room in self._linked:
            self._replace(message.room, message.offers)
            self._demand(message.room)

    def speaking(self, message: RoomSpeakers, now: float) -> None:
        """Note who speaks there: of tracks that nobody here wants, no packet tells."""
        for track_id in message.tracks:
            incoming = self._tracks.get(message.room, {}).get(track_id)
            if incoming is not None:
                incoming.track.spoke_at = now

    def room_changed(self, room: str) -> None:
        """Take a place in the room again that became free."""
        self._enter(incoming.track for incoming in self._tracks.get(room, {}).values())

    def take_rtp(self, packet: bytes, now: float) -> None:
        """Take a packet from the far end."""
        incoming = self._by_ssrc.get(int.from_bytes(packet[8:12], "big"))
        if incoming is not None:
            self._counters.rtp_received += 1
            self._counters.repaired += incoming.take(packet, now)

    def take_report(self, report: rtcp.SenderReport, now: float, ntp_now_s: float) -> None:
        """Take a sender report of one stream."""
        incoming = self._by_ssrc.get(report.ssrc)
        if incoming is not None:
            incoming.track.sender_report(report, now, ntp_now_s)

    def tick(self, now: float, rtt_s: float) -> None:
        """Ask for what is missing and due; remove what nobody brings any more."""
        for incoming in self._by_ssrc.values():
            track = incoming.track
            if not track.wanted:
                continue
            if track.gaps:
                self._repair(track, now, rtt_s)
            track.tick(now)
            awaited = incoming.awaited
            if awaited is not None and now >= awaited.ask_again_at:
                self._ask_again(incoming, awaited, now)
        for room, remove_at in list(self._stale.items()):
            if now >= remove_at:
                self._replace(room, ())

    def report(self, now: float) -> None:
        """Send receiver reports about what flows; an empty one shows the far end that this direction works."""
        if self._carrier is None:
            return
        flowing = [i.track for i in self._by_ssrc.values() if i.track.wanted]
        for start in range(0, max(1, len(flowing)), MAX_BLOCKS):
            blocks = [track.report_block(now) for track in flowing[start : start + MAX_BLOCKS]]
            self._carrier.send_rtcp(
                rtcp.receiver_report(self._ssrc, blocks)
                + rtcp.source_description(self._ssrc, self._node)
            )

    # --- Upstream --------------------------------------------------------------------------------

    def request_keyframe(self, track: Track) -> None:
        """Send a PLI, and again until a key frame comes: a trunk loses RTCP too."""
        incoming = self._by_ssrc.get(track.ssrc)
        if incoming is not None and incoming.track is track:
            incoming.awaited = _Awaited(self._clock() + PLI_INTERVAL_S)
            self._pli(track)

    def demand_changed(self, track: Track) -> None:
        """Tell the far end what is wanted now."""
        incoming = self._by_ssrc.get(track.ssrc)
        if incoming is None or incoming.track is not track:
            return  # of a trunk before this one, or withdrawn
        if track.wanted:
            # The stream resumes somewhere else: what lies between was not lost.
            track.gaps = Gaps()
            track.reception = Reception(track.info.codec.clock_rate)
        else:
            track.gaps.forget()
            incoming.awaited = None
        self._demand(track.info.room)

    # ---------------------------------------------------------------------------------------------

    def _demand(self, room: str) -> None:
        tracks = self._tracks.get(room, {})
        wanted = frozenset(track_id for track_id, i in tracks.items() if i.track.wanted)
        self._say(RoomDemand(room, wanted))

    def _replace(self, room: str, offers: Iterable[Offer]) -> None:
        """Make the room's tracks of this trunk those of `offers`; what stays the same stays untouched."""
        self._stale.pop(room, None)
        before = self._tracks.get(room, {})
        now: dict[str, IncomingTrack] = {}
        new: list[Track] = []
        for offer in offers:
            kept = before.get(offer.info.id)
            if kept is None or kept.offer != offer or self._by_ssrc.get(offer.ssrc) is not kept:
                kept = IncomingTrack(offer, Track(offer.info, offer.ssrc, self._timeline, self))
                new.append(kept.track)
            now[offer.info.id] = kept
        gone = [incoming for incoming in before.values() if incoming not in now.values()]
        # This object's own state first: changing Rooms makes subscribers attach and detach at once.
        if now:
            self._tracks[room] = now
        else:
            self._tracks.pop(room, None)
        for incoming in gone:
            if self._by_ssrc.get(incoming.track.ssrc) is incoming:
                del self._by_ssrc[incoming.track.ssrc]
        for track in new:
            self._by_ssrc[track.ssrc] = now[track.info.id]
        self._enter(new, replace=True)
        self._rooms.remove(i.track for i in gone if i.track not in new)

    def _enter(self, tracks: Iterable[Track], *, replace: bool = False) -> None:
        """Put tracks into their room where the place is free, or where another trunk's has it and `replace`."""
        entering = []
        for track in tracks:
            holder = self._rooms.track(track.info.room, track.info.id)
            if holder is None or (replace and holder.info.hops > 0 and holder is not track):
                entering.append(track)
        if entering:
            self._rooms.add(entering)

    def _repair(self, track: Track, now: float, rtt_s: float) -> None:
        missing = track.gaps.due(now, rtt_s)
        if missing and self._carrier is not None:
            self._carrier.send_rtcp(
                rtcp.receiver_report(self._ssrc, ()) + rtcp.nack(self._ssrc, track.ssrc, missing)
            )

    def _ask_again(self, incoming: IncomingTrack, awaited: _Awaited, now: float) -> None:
        if awaited.asked >= MAX_PLIS:
            incoming.awaited = None
            return
        awaited.asked += 1
        awaited.ask_again_at = now + PLI_INTERVAL_S
        self._pli(incoming.track)

    def _pli(self, track: Track) -> None:
        if self._carrier is not None and track.info.kind is MediaKind.VIDEO:
            self._carrier.send_rtcp(
                rtcp.receiver_report(self._ssrc, ()) + rtcp.picture_loss(self._ssrc, track.ssrc)
            )
