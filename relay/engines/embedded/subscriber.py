"""A WHEP session: the slots of one client, filled with the room's tracks."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from relay.core import rtcp, slots
from relay.core.recent import RecentMinimum
from relay.core.reception import round_trip_s
from relay.core.rooms import Rooms
from relay.core.round_trips import FORGET_S, SAMPLES
from relay.core.sdp import Offer
from relay.core.sdp_answer import AnsweredMedia, supported
from relay.engines.base import Identity, SlotView
from relay.engines.embedded.peer import CNAME, Peer
from relay.engines.embedded.slot import Slot
from relay.errors import UnsupportedError
from relay.transport.clock import monotonic, ntp

REPORT_INTERVAL_S = 1.0
"""Between sender reports: a switched slot is in sync after at most that long."""

REPEAT_VIEWS_S = 15.0
"""Between repetitions of an unchanged slot map: proxies cut a stream that is silent for 30 to 60 s."""

REFILL_INTERVAL_S = 0.5
"""Between looks at who speaks, for subscribers with fewer slots than there are tracks."""


class Subscriber:
    """Terminates a receiving client: PeerHandler, and owner of its slots."""

    def __init__(self, who: Identity, rooms: Rooms, pinned: str | None) -> None:
        self.who = who
        self.slots: list[Slot] = []
        self._rooms = rooms
        self._pinned = pinned
        self._peer: Peer | None = None
        self._reported = RecentMinimum(SAMPLES, FORGET_S)
        self._report_at = 0.0
        self._refill_at = 0.0
        self._closed = False
        self._changed = asyncio.Event()

    def rtt_s(self, now: float) -> float | None:
        """Return the round trip to the client, None while it is unknown."""
        return None if self._peer is None else self._peer.rtt_s(now)

    def reported_rtt_s(self, now: float) -> float | None:
        """Return the round trip by the client's receiver reports: second best, because they are its word."""
        return self._reported.value(now)

    def accept(self, offer: Offer, peer: Peer) -> list[AnsweredMedia]:
        """Make a slot of each m-line that receives.

        Raises `UnsupportedError` (`no_slots_offered`, `unsupported_codec`).
        """
        answered = []
        receiving = False
        counts = {"audio": 0, "video": 0}
        for media in offer.media:
            receives = media.direction in ("recvonly", "sendrecv") and not media.rejected
            if media.kind not in counts or not receives:
                answered.append(AnsweredMedia(media, "inactive"))
                continue
            receiving = True
            if not any(supported(codec) for codec in media.codecs.values()):
                answered.append(AnsweredMedia(media, "inactive"))
                continue
            slot = Slot(media, peer, counts[media.kind])
            counts[media.kind] += 1
            self.slots.append(slot)
            answered.append(slot.answered())
        if not receiving:
            raise UnsupportedError(
                "no_slots_offered",
                "no audio or video m-line of the offer receives",
                "offer one recvonly transceiver for each slot",
            )
        if not self.slots:
            raise UnsupportedError(
                "unsupported_codec",
                "no m-line offers a codec that this node forwards",
                "offer VP8 or H264 (packetization-mode=1) for video and Opus for audio",
            )
        self._peer = peer
        return answered

    def refill(self, now: float) -> None:
        """Look which track belongs into which slot now."""
        if self._peer is None or not self._peer.is_connected:
            return
        by_mid = {slot.spec.mid: slot for slot in self.slots}
        chosen = slots.assign(
            [slot.spec for slot in self.slots],
            self._rooms.tracks(self.who.room),
            {slot.spec.mid: slot.track for slot in self.slots if slot.track is not None},
            viewer=self.who.participant,
            pinned=self._pinned,
            playable=lambda spec, track: by_mid[spec.mid].plays(track.info.codec),
        )
        changed = False
        for slot in self.slots:
            track = chosen.get(slot.spec.mid)
            changed = changed or track is not slot.track
            slot.show(track, now)
        if changed:
            self._wake()

    def tick(self, now: float) -> None:
        """Report, and follow the conversation."""
        if self._peer is None or not self._peer.is_connected:
            return
        if now >= self._refill_at:
            self._refill_at = now + REFILL_INTERVAL_S
            self.refill(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL_S
            ntp_now = ntp()
            for slot in self.slots:
                slot.report(ntp_now, CNAME)

    def close(self) -> None:
        """Let go of all tracks."""
        self._closed = True
        for slot in self.slots:
            slot.show(None, monotonic())
        self._wake()
        if self._peer is not None:
            self._peer.close()

    async def views(self) -> AsyncIterator[Sequence[SlotView]]:
        """Yield what the slots show, at once, after every change and now and then, until the session ends."""
        while not self._closed:
            changed = self._changed
            yield [_view(slot) for slot in self.slots]
            with suppress(TimeoutError):
                async with asyncio.timeout(REPEAT_VIEWS_S):
                    await changed.wait()

    # --- PeerHandler -----------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """Fill the slots."""
        self.refill(now)

    def take_rtp(self, packet: bytes, now: float) -> None:
        """Pass over what a receiver sends: nothing was negotiated."""

    def take_rtcp(self, packets: list[rtcp.Packet], now: float) -> None:
        """Answer NACKs, pass on key frame requests, learn the round trip."""
        for packet in packets:
            if isinstance(packet, rtcp.Nack):
                slot = self._slot(packet.media)
                if slot is not None:
                    slot.resend(packet.sequences, now)
            elif isinstance(packet, rtcp.KeyframeRequest):
                slot = self._slot(packet.media)
                if slot is not None and slot.track is not None:
                    slot.track.request_keyframe(now)
            else:
                self._learn_rtt(packet.blocks, now)

    # ---------------------------------------------------------------------------------------------

    def _slot(self, ssrc: int) -> Slot | None:
        return next((slot for slot in self.slots if slot.stream.ssrc == ssrc), None)

    def _learn_rtt(self, blocks: tuple[rtcp.ReportBlock, ...], now: float) -> None:
        for block in blocks:
            rtt = round_trip_s(block, ntp())
            if rtt is not None:
                self._reported.add(rtt, now)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _view(slot: Slot) -> SlotView:
    if slot.track is None:
        return SlotView(slot.spec.mid, slot.spec.kind, None, None, 0, None)
    info = slot.track.info
    return SlotView(
        slot.spec.mid, slot.spec.kind, info.participant, info.id, info.hops, info.origin_node
    )
