"""Key frames: recognise one in a payload, and ask for one not too often."""

PLI_INTERVAL_S = 0.5
"""Between two requests for the same track. A key frame costs an encoder several times a normal frame; Janus and
JVB limit alike. Requests within the interval are merged into one at its end."""


def begins_keyframe(codec: str, payload: bytes) -> bool:
    """Tell whether this RTP payload is the first of a key frame.

    Knows "vp8" (RFC 7741) and "h264" (RFC 6184); for any other codec every packet is a fine place to begin.
    """
    if codec == "vp8":
        return _vp8(payload)
    if codec == "h264":
        return _h264(payload)
    return True


def _vp8(payload: bytes) -> bool:
    if not payload or payload[0] & 0x1F != 0x10:  # S bit set, partition index 0 (section 4.2)
        return False
    offset = 1
    if payload[0] & 0x80:
        if len(payload) < 2:
            return False
        extended = payload[1]
        offset = 2
        if extended & 0x80:
            offset += 2 if len(payload) > 2 and payload[2] & 0x80 else 1
        offset += 1 if extended & 0x40 else 0
        offset += 1 if extended & 0x30 else 0
    return len(payload) > offset and not payload[offset] & 0x01  # inverse key frame flag


def _h264(payload: bytes) -> bool:
    if not payload:
        return False
    kind = payload[0] & 0x1F
    if kind == 24:  # STAP-A: look at each unit
        offset = 1
        while offset + 2 < len(payload):
            if payload[offset + 2] & 0x1F in (5, 7):
                return True
            offset += 2 + int.from_bytes(payload[offset : offset + 2], "big")
        return False
    if kind == 28:  # FU-A: only the first fragment
        return len(payload) > 1 and bool(payload[1] & 0x80) and payload[1] & 0x1F in (5, 7)
    return kind in (5, 7)  # IDR slice, or the parameter sets before it


class KeyframeThrottle:
    """Merges requests for key frames of one track."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._pending = False

    def request(self, now: float) -> bool:
        """Note a request; return whether to pass it on at once."""
        if now - self._asked_at >= PLI_INTERVAL_S:
            self._asked_at = now
            self._pending = False
            return True
        self._pending = True
        return False

    def due(self, now: float) -> bool:
        """Return whether a request that was held back has to be passed on now."""
        return self._pending and self.request(now)

    def arrived(self) -> None:
        """Note a key frame: whoever waited has it."""
        self._pending = False
