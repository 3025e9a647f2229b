"""What a call on a node feels while somebody floods every UDP port of it.

    python -m tests.bench junk [--seconds N]

One call between two WebRTC clients (audio and video) over a relay process, three times: undisturbed; while a second
process sends random datagrams, mutations of what the call itself sent, and honest-looking probes to ports of nobody, at
line rate; and while it sends them to the node. The second run tells what the sender takes away as a process of this
machine, which a real one would not; the difference between it and the third is the node's.
"""

import asyncio
import contextlib
import os
import socket
import statistics
import sys
import tempfile
import time
from asyncio import selector_events
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aiortc import RTCPeerConnection

from relay.core import rtp
from tests.fakes.relay_process import ROOT, RelayProcess, relay_process
from tests.fakes.waiting import eventually
from tests.relay.rtc import Client, RunningNode, client, counting

QUIET_S = 5.0
SAMPLES = 400
"""Datagrams of the call that are kept to be mutated."""

SETTLE_S = 1.0


@dataclass(frozen=True)
class Run:
    """What a call felt."""

    p50_ms: float
    """Delay from the sending client's hands to the receiving one's."""
    p99_ms: float
    lost: float
    """Share of packets that never came."""
    relay_cpu: float
    """Cores that the relay used."""
    junk_per_s: float


@dataclass(frozen=True)
class Figures:
    """What the three runs gave."""

    quiet: Run
    elsewhere: Run
    flooded: Run
    log_bytes: int
    """By how much the relay's log grew under the flood."""

    @property
    def added_p99_ms(self) -> float:
        """What the flood added."""
        return self.flooded.p99_ms - max(self.quiet.p99_ms, self.elsewhere.p99_ms)


class Tap:
    """Notes when each packet left one client and reached the other, by its payload, which no relay changes."""

    def __init__(self, sender: RTCPeerConnection, receiver: RTCPeerConnection) -> None:
        self.delays_ms: list[float] = []
        self.sent = 0
        self._left: dict[bytes, float] = {}
        up = sender.getTransceivers()[0].sender.transport
        down = receiver.getTransceivers()[0].receiver.transport
        self._send, self._take = up._send_rtp, down._handle_rtp_data
        up._send_rtp = self._note_sent  # type: ignore[method-assign]
        down._handle_rtp_data = self._note_came  # type: ignore[method-assign]

    def clear(self) -> None:
        """Forget what was noted."""
        self.delays_ms.clear()
        self._left.clear()
        self.sent = 0

    async def _note_sent(self, data: bytes) -> None:
        header = None if rtp.is_rtcp(data) else rtp.parse(data)
        if header is not None and header.payload_end - header.payload_start > 16:
            self._left[data[header.payload_start : header.payload_end]] = time.monotonic()
            self.sent += 1
        await self._send(data)

    async def _note_came(self, data: bytes, arrival_time_ms: int) -> None:
        header = rtp.parse(data)
        if header is not None:
            left = self._left.pop(data[header.payload_start : header.payload_end], None)
            if left is None:  # a repair carries the number of what was lost before it
                left = self._left.pop(data[header.payload_start + 2 : header.payload_end], None)
            if left is not None:
                self.delays_ms.append((time.monotonic() - left) * 1000)
        await self._take(data, arrival_time_ms)


@contextlib.contextmanager
def recorded(samples: list[bytes]) -> Iterator[None]:
    """Keep what the clients send meanwhile: checks, handshakes, media, RTCP."""
    kind = selector_events._SelectorDatagramTransport  # type: ignore[attr-defined]
    sendto = kind.sendto

    def note(self: object, data: bytes, addr: object = None) -> None:
        if len(samples) < SAMPLES and len(data) >= 20:
            samples.append(bytes(data))
        sendto(self, data, addr)

    kind.sendto = note
    try:
        yield
    finally:
        kind.sendto = sendto


async def measure(seconds: float, directory: Path) -> Figures:
    """Return the figures of one call."""
    samples: list[bytes] = []
    async with relay_process(directory) as relay:
        node = cast("RunningNode", relay)  # as far as a client looks
        async with client(node, "ana") as ana, client(node, "bob") as bob:
            with recorded(samples):
                await ana.publish()
                await bob.subscribe()
                async with counting(bob):
                    await eventually(
                        lambda: None if bob.frames.get("0", 0) > 5 else "no frames", 20
                    )
            async with counting(bob):
                return await _three(relay, ana, bob, samples, seconds)


async def _three(
    relay: RelayProcess, ana: Client, bob: Client, samples: Sequence[bytes], seconds: float
) -> Figures:
    tap = Tap(ana.up, bob.down)
    await asyncio.sleep(SETTLE_S)
    quiet = await _run(relay, tap, None, QUIET_S)
    ports = await asyncio.to_thread(relay.udp_ports)
    with contextlib.ExitStack() as stack:
        nobody = [stack.enter_context(_unread()) for _ in ports]
        elsewhere = await _run(relay, tap, _Flood(QUIET_S, nobody, samples), QUIET_S)
    before = (await asyncio.to_thread(relay.log.stat)).st_size
    flooded = await _run(relay, tap, _Flood(seconds, ports, samples), seconds)
    after = (await asyncio.to_thread(relay.log.stat)).st_size
    return Figures(quiet, elsewhere, flooded, after - before)


async def _run(relay: RelayProcess, tap: Tap, flood: "_Flood | None", seconds: float) -> Run:
    async with asyncio.TaskGroup() as tasks:
        if flood is not None:
            tasks.create_task(flood.run())
            await asyncio.sleep(SETTLE_S)  # until it has begun
        tap.clear()
        cpu, at = relay.cpu_s(), time.monotonic()
        await asyncio.sleep(seconds - SETTLE_S)
        delays, sent = list(tap.delays_ms), tap.sent
        used = (relay.cpu_s() - cpu) / (time.monotonic() - at)
    cuts = statistics.quantiles(delays, n=100)
    lost = max(0.0, 1 - len(delays) / max(1, sent))
    return Run(cuts[49], cuts[98], lost, used, 0.0 if flood is None else flood.sent / seconds)


@contextlib.contextmanager
def _unread() -> Iterator[int]:
    """A port whose datagrams nobody reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


class _Flood:
    """A sender process."""

    def __init__(self, seconds: float, ports: Sequence[int], samples: Sequence[bytes]) -> None:
        self.sent = 0
        self._seconds = seconds
        self._command = [sys.executable, "-m", "tests.bench.junk_sender", str(seconds)]
        self._command += [str(port) for port in ports]
        self._input = "\n".join(sample.hex() for sample in samples).encode()

    async def run(self) -> None:
        """Send until the time is over."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, cwd=ROOT
        )
        try:
            async with asyncio.timeout(self._seconds + 20):
                out, _ = await process.communicate(self._input)
        finally:
            if process.returncode is None:
                process.kill()
        self.sent = int(out)


def report(seconds: float = 60.0) -> str:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        one = asyncio.run(measure(seconds, Path(folder)))
    lines = [
        f"junk, {one.flooded.junk_per_s:,.0f} datagrams/s for {seconds:.0f} s on every UDP port of a node, "
        f"from one of the {os.cpu_count()} cores that all share"
    ]
    for name, run in (
        ("undisturbed", one.quiet),
        ("junk to nobody", one.elsewhere),
        ("junk to the node", one.flooded),
    ):
        lines.append(
            f"  {name:<17} delay p50 {run.p50_ms:5.1f} ms, p99 {run.p99_ms:6.1f} ms, "
            f"lost {run.lost:.2%}, relay {run.relay_cpu:.2f} cores"
        )
    lines.append(
        f"  added to p99 {one.added_p99_ms:.1f} ms (goal 20); log grew by {one.log_bytes} bytes (goal 10,000)"
    )
    return "\n".join(lines)
