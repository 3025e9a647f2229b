"""The last packets of a stream, to answer NACKs from."""

from relay.core.rtp import sequence_of

VIDEO_PACKETS = 2048
"""Eight seconds of a 2 Mbit/s stream (250 packets/s), one of 20 Mbit/s: more than max(1 s, 2 RTT) on any path.
A power of two, so that the ring follows the 16-bit circle. At most 2.5 MB a track."""

AUDIO_PACKETS = 256
"""Five seconds of Opus at 20 ms."""


class PacketCache:
    """A ring of packets by sequence number."""

    def __init__(self, size: int) -> None:
        if size & (size - 1):
            raise ValueError("size has to be a power of two")
        self._mask = size - 1
        self._ring: list[bytes | None] = [None] * size

    def put(self, packet: bytes) -> None:
        """Keep a packet; it replaces the one `size` sequence numbers before."""
        self._ring[sequence_of(packet) & self._mask] = packet

    def get(self, sequence: int) -> bytes | None:
        """Return the packet with this sequence number while it is kept."""
        packet = self._ring[sequence & self._mask]
        if packet is None or sequence_of(packet) != sequence:
            return None
        return packet
