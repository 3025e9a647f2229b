"""coturn as a child: started, listened to, started again when it ends, ended with this process."""

import asyncio
import random
import re
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from contextlib import suppress
from pathlib import Path

import structlog

from relay.core.backoff import backoff_s
from relay.transport.clock import monotonic

PROGRAM = "turnserver"
TERM_GRACE_S = 3.0
"""From SIGTERM to SIGKILL; coturn ends in milliseconds."""

STEADY_S = 10.0
"""A run of this length was no failure to start: the next wait is short again."""

LINE_BYTES = 4096
"""Longer lines of its log are cut."""

LINES_PER_MINUTE = 20
"""Of its complaints: most are about clients, who could fill the disk with them."""

COMPLAINT = re.compile(r"\b(ERROR|WARNING|Cannot bind|ALERT|FATAL)\b", re.IGNORECASE)
_IPV4 = re.compile(r"\b(\d{1,3}\.\d{1,3})\.\d{1,3}\.\d{1,3}\b")
_IPV6 = re.compile(r"([0-9a-f]{0,4}):[0-9a-f]{0,4}:[0-9a-f:.]*", re.IGNORECASE)

log = structlog.get_logger("relay.turn")


def redact(line: str) -> str:
    """Return a line in which of every IP address only the beginning is left."""
    return _IPV4.sub(r"\1…", _IPV6.sub(r"\1:…", line))


class Complaints:
    """Passes on a bounded number of the child's complaints."""

    def __init__(self) -> None:
        self._minute = 0
        self._left = LINES_PER_MINUTE
        self._withheld = 0

    def heard(self, line: str, now: float) -> None:
        """Log a line if it is a complaint and there is room for it."""
        if not COMPLAINT.search(line):
            return
        minute = int(now // 60)
        if minute != self._minute:
            if self._withheld:
                log.warning("coturn complained more than that", lines=self._withheld)
            self._minute, self._left, self._withheld = minute, LINES_PER_MINUTE, 0
        if self._left <= 0:
            self._withheld += 1
            return
        self._left -= 1
        log.warning("coturn complains", line=redact(line.strip()))


class TurnProcess:
    """Runs `turnserver -c CONFIG` until cancelled."""

    def __init__(self, config: Path) -> None:
        self.starts = 0
        self._config = config
        self._wanted = asyncio.Event()
        self._process: Process | None = None
        self._complaints = Complaints()

    @property
    def is_running(self) -> bool:
        """Whether there is a child now; that it serves is for a probe to say."""
        return self._process is not None and self._process.returncode is None

    def start(self) -> None:
        """Start it now that its files are there; one that runs is ended and started with what they say now."""
        self._wanted.set()
        self._signal(signal.SIGTERM)

    def reload_certificates(self) -> None:
        """Make it read its certificate again; calls go on."""
        self._signal(signal.SIGUSR2)

    async def run(self) -> None:
        """Keep one running once `start` was called, until cancelled."""
        await self._wanted.wait()
        failures = 0
        while True:
            began = monotonic()
            try:
                await self._run_once()
            except OSError as error:
                log.warning("coturn cannot be started", why=str(error))
            finally:
                await self._end()
            steady = monotonic() - began > STEADY_S
            failures = 0 if steady else failures + 1
            await asyncio.sleep(backoff_s(failures, random.random()))  # noqa: S311 - spreads retries

    async def _run_once(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            # So that it dies with this process, even with one that is killed.
            *(("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()),
            PROGRAM,
            "-c",
            str(self._config),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            limit=LINE_BYTES,
        )
        self.starts += 1
        log.info("coturn started", pid=self._process.pid)
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        await self._listen(self._process.stdout)
        code = await self._process.wait()
        log.warning("coturn ended", code=code)

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._complaints.heard(line[:LINE_BYTES].decode(errors="replace"), monotonic())
            rest = rest[:LINE_BYTES]

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(TERM_GRACE_S):
                await process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


async def installed_version() -> str:
    """Return what `turnserver --version` prints; empty when it is not there or does not answer."""
    program = shutil.which(PROGRAM)
    if program is None:
        return ""
    process = await asyncio.create_subprocess_exec(
        program, "--version", stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    try:
        async with asyncio.timeout(TERM_GRACE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return output[:LINE_BYTES].decode(errors="replace")
