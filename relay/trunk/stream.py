"""One track's packets on one trunk: its SSRC there, and sequence numbers that never go back.

AES-GCM loses its key when two different packets are protected under one nonce (RFC 7714, section 9.1), and the
nonce is made of SSRC and sequence number. So each number goes out for one packet only, whatever a publisher does:

1. Within a stretch, the numbers are the track's own plus a fixed offset; timestamps are always the track's own.
   The first stretch begins below 2^15: a far end that misses its first packets has to see no wrap that the sender
   counted and it did not (RFC 3711, section 3.3.1), or it could open none of the rest.
2. A pause, and a jump that `Gaps` takes for a new beginning, begin a new stretch, whose first number follows the last
   one that went out. To the far end a resumed or restarted track is one without a jump.
3. A repair is the same bytes again, and only from the current stretch.
"""

from relay.core.gaps import MAX_GAP
from relay.core.rtp import FIXED_HEADER, sequence_delta, sequence_of, with_header
from relay.core.track import Track

_WINDOW = (1 << (MAX_GAP + 1)) - 1


class TrunkStream:
    """Rewrites a track's packets for one trunk; `ssrc` must be new to the trunk's key."""

    def __init__(self, ssrc: int, payload_type: int) -> None:
        self.ssrc = ssrc
        self.packets = 0
        """Sent, without repairs."""
        self.octets = 0
        """Of payload, as sender reports count."""
        self._payload_type = payload_type
        # Sequence numbers without the wrap at 2^16. The track's:
        self._first = 0
        self._highest: int | None = None
        self._sent = 0
        """Bit n: the packet n below the highest was sent."""
        self._offset = 0
        """What to add to get the trunk's."""
        self._next: int | None = None
        """The trunk's number that the next stretch begins with; None before the first."""

    def pause(self) -> None:
        """End the stretch."""
        if self._highest is not None:
            self._next = self._highest + self._offset + 1
            self._highest = None

    def rewrite(self, packet: bytes) -> bytes | None:
        """Return the packet as it goes out, or None if it was sent or belongs to a stretch before."""
        sequence = sequence_of(packet)
        highest = self._highest
        ahead = 0 if highest is None else sequence_delta(sequence, highest & 0xFFFF)
        if highest is None or abs(ahead) > MAX_GAP:
            self.pause()
            self._begin(sequence)
        elif ahead > 0:
            self._highest = highest + ahead
            self._sent = (self._sent << ahead | 1) & _WINDOW
        elif highest + ahead < self._first or self._sent >> -ahead & 1:
            return None
        else:
            self._sent |= 1 << -ahead
        self.packets += 1
        self.octets += len(packet) - 12
        return self._out(packet)

    def resend(self, track: Track, sequence: int) -> bytes | None:
        """Return the packet that went out under this number of the trunk, if it is still kept."""
        if self._highest is None:
            return None
        last_out = self._highest + self._offset
        behind = -sequence_delta(sequence, last_out & 0xFFFF)
        if not 0 <= behind <= MAX_GAP or self._highest - behind < self._first:
            return None
        if not self._sent >> behind & 1:
            return None
        packet = track.packet((self._highest - behind) & 0xFFFF)
        return None if packet is None else self._out(packet)

    def _begin(self, sequence: int) -> None:
        self._first = self._highest = sequence
        self._sent = 1
        self._offset = -(sequence & 0x8000) if self._next is None else self._next - sequence

    def _out(self, packet: bytes) -> bytes:
        timestamp = FIXED_HEADER.unpack_from(packet)[3]
        sequence = (sequence_of(packet) + self._offset) & 0xFFFF
        return with_header(packet, self._payload_type, sequence, timestamp, self.ssrc)
