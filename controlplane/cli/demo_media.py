"""What the headless participants show and say: a small moving picture and a tone, made on the spot."""

import asyncio
from array import array
from fractions import Fraction
from math import pi, sin

from aiortc import MediaStreamTrack
from av import AudioFrame, VideoFrame

WIDTH, HEIGHT, FRAME_RATE = 320, 180, 15
"""Small enough that three encoders and six decoders fit beside the relays on two cores."""
VIDEO_CLOCK = 90_000  # RFC 3551, 4.2: the RTP clock of video
SAMPLE_RATE = 48_000  # RFC 7587, 4.1: the RTP clock of Opus, whatever it carries
AUDIO_FRAME_S = 0.020  # RFC 7587, 4.2: Opus's usual frame
LOUDNESS = 6_000  # of 32767
LATE_S = 0.5
"""A source that is later than this skips ahead: a burst of old frames would help nobody."""


class _Paced(MediaStreamTrack):
    """A track whose frames come at a fixed rhythm."""

    def __init__(self, interval_s: float) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._began: float | None = None
        self._index = -1

    async def _next_index(self) -> int:
        """Wait for the next frame's time; return its number. Skips numbers when far behind."""
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        self._index += 1
        due = self._began + self._index * self._interval_s
        if due > now:
            await asyncio.sleep(due - now)
        elif now - due > LATE_S:
            self._index += int((now - due) / self._interval_s)
        return self._index


class MovingPicture(_Paced):
    """Diagonal stripes that wander, in one colour per participant."""

    kind = "video"

    def __init__(self, colour: int) -> None:
        super().__init__(1 / FRAME_RATE)
        # One period of brightness, repeated: every row of every frame is a slice of it.
        self._ramp = bytes(48 + abs(x % 128 - 64) * 2 for x in range(WIDTH + HEIGHT + 128))
        chroma = WIDTH // 2 * (HEIGHT // 2)
        self._cb = bytes([64 + colour * 67 % 128]) * chroma
        self._cr = bytes([64 + colour * 101 % 128]) * chroma

    async def recv(self) -> VideoFrame:
        """Return the next frame, at its time."""
        index = await self._next_index()
        shift = index * 4 % 128
        luma = b"".join(self._ramp[shift + y : shift + y + WIDTH] for y in range(HEIGHT))
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, content in zip(frame.planes, (luma, self._cb, self._cr), strict=True):
            plane.update(content)
        frame.pts = index * VIDEO_CLOCK // FRAME_RATE
        frame.time_base = Fraction(1, VIDEO_CLOCK)
        return frame


class Tone(_Paced):
    """A sine, each participant's at a pitch of its own."""

    kind = "audio"

    def __init__(self, step: int) -> None:
        super().__init__(AUDIO_FRAME_S)
        self._samples = round(SAMPLE_RATE * AUDIO_FRAME_S)
        # A multiple of 50 Hz has whole periods in 20 ms, so that one frame repeats without a click.
        angle = 2 * pi * (300 + 50 * step) / SAMPLE_RATE
        self._frame = array(
            "h", (round(LOUDNESS * sin(angle * n)) for n in range(self._samples))
        ).tobytes()

    async def recv(self) -> AudioFrame:
        """Return the next 20 ms, at their time."""
        index = await self._next_index()
        frame = AudioFrame(format="s16", layout="mono", samples=self._samples)
        frame.planes[0].update(self._frame)
        frame.sample_rate = SAMPLE_RATE
        frame.pts = index * self._samples
        frame.time_base = Fraction(1, SAMPLE_RATE)
        return frame
