"""Child processes of `thalweg up`: start, listen to their logs, end them so that none is left."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TETHER = Path(__file__).with_name("tether.py")
TAIL_LINES = 15
"""Log lines kept per child for the error message: a traceback's end, and the line that led to it."""
LINE_BYTES = 16_384
"""Longer log lines are cut: a child must not be able to fill the supervisor's memory."""
TERM_GRACE_S = 5.0
"""From SIGTERM to SIGKILL. Sessions end in well under a second; a child that needs longer hangs."""

LineHandler = Callable[[str, str, str], None]
"""Called with the child's name, a log line, and the line's level: "debug", "info", "warning", "error", …"""


@dataclass(slots=True)
class Child:
    """One running child process."""

    name: str
    process: Process
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    """Its last log lines."""
    ended: bool = False
    """It has ended, and everything that it logged was heard."""

    @property
    def pid(self) -> int:
        """The process id; it stays the same through the tether."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.returncode is None

    def death(self) -> str:
        """Say how it ended, in words."""
        code = self.process.returncode
        if code is None:
            return "is running"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended already is left in peace."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def follow(self, on_line: LineHandler) -> None:
        """Read its log until it ends, then reap it."""
        stream = self.process.stderr
        assert stream is not None  # noqa: S101 - start_child asks for a pipe
        rest = b""
        while chunk := await stream.read(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._heard(line, on_line)
            rest = rest[:LINE_BYTES]
        if rest:
            self._heard(rest, on_line)
        await self.process.wait()
        self.ended = True

    def _heard(self, line: bytes, on_line: LineHandler) -> None:
        text = line[:LINE_BYTES].decode(errors="replace").rstrip()
        if text:
            text, level = readable(text)
            self.tail.append(text)
            on_line(self.name, text, level)


def readable(line: str) -> tuple[str, str]:
    """Turn a structlog JSON line into `level: event key=value …`; also return the level.

    Anything that is no JSON object (a traceback, a C library's complaint) is passed on as an error.
    """
    try:
        entry = json.loads(line) if line.startswith("{") else None
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        return line, "error"
    level = str(entry.pop("level", "info")).lower()
    event = str(entry.pop("event", ""))
    for noise in ("timestamp", "logger"):
        entry.pop(noise, None)
    trace = str(entry.pop("exception", ""))
    words = [event, *(f"{key}={value}" for key, value in entry.items())]
    text = f"{level}: " + " ".join(words) + (f"\n{trace}" if trace else "")
    return text, level


async def start_child(
    name: str, module: str, arguments: Sequence[str], env: Mapping[str, str] | None = None
) -> Child:
    """Start `python -m module arguments…` with this interpreter, tied to this process's life.

    It gets a session of its own: Ctrl-C in the terminal reaches the supervisor alone, which then ends the
    children in order. Raises OSError when no process can be made.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-ISu",
        str(TETHER),
        str(os.getpid()),
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        env=dict(os.environ, **(env or {})),
        start_new_session=True,
    )
    return Child(name, process)


async def end_children(children: Sequence[Child]) -> list[str]:
    """End all of them with SIGTERM, and with SIGKILL what is left after TERM_GRACE_S; return the names of those.

    Must run to its end: shield it from cancellation.
    """
    waiting = {child.name: child for child in children if child.running}
    for child in waiting.values():
        child.signal(signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(TERM_GRACE_S):
            for child in waiting.values():
                await child.process.wait()
    stubborn = [child for child in waiting.values() if child.running]
    for child in stubborn:
        child.signal(signal.SIGKILL)
    for child in stubborn:
        await child.process.wait()
    return [child.name for child in stubborn]
