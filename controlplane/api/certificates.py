"""Follows what identifies this process and what it signs with, as operators replace it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from controlplane.adapters.tls_files import TlsFiles
from controlplane.services.ports import Clock

POLL_S = 2.0
"""How late a replaced file is noticed."""

COMPLAIN_EVERY_S = 3600.0
"""Between two lines about a certificate that is about to end."""

log = structlog.get_logger(__name__)


class Followed(Protocol):
    """Something that lies in files."""

    @property
    def problem(self) -> str:
        """Why its newest version is not in force; empty when it is."""
        ...

    def poll(self) -> bool:
        """Look for a newer one, which may block; return whether anything changed."""
        ...


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where operators see it."""

    broken: Callable[[str, bool], None]
    """Flag, and whether its files are not in force as they stand."""
    certificate_expires_s: Callable[[float], None]
    """Seconds until the process's own certificate ends."""


class Certificates:
    """Polls files by the flag that named them, and watches the end of our own certificate."""

    def __init__(
        self, tls: TlsFiles, others: Sequence[tuple[str, Followed]], gauges: Gauges, clock: Clock
    ) -> None:
        self._tls = tls
        self._followed: Sequence[tuple[str, Followed]] = (("tls-dir", tls), *others)
        self._gauges = gauges
        self._clock = clock
        self._complained_at = 0.0

    async def follow(self) -> None:
        """Follow the files until cancelled."""
        while True:
            self._watch_the_end()
            await asyncio.sleep(POLL_S)
            for flag, followed in self._followed:
                if await asyncio.to_thread(followed.poll):
                    self._tell(flag, followed)

    def _tell(self, flag: str, followed: Followed) -> None:
        self._gauges.broken(flag, bool(followed.problem))
        if followed.problem:
            log.error(
                "A FILE OF KEYS IS BROKEN: the last good one stays in force",
                flag=flag,
                file=str(followed),
                problem=followed.problem,
            )
        else:
            log.info("keys were read anew", flag=flag, file=str(followed))

    def _watch_the_end(self) -> None:
        now = self._clock.now()
        left = self._tls.value.ends_at - now
        self._gauges.certificate_expires_s(left)
        if self._tls.value.is_late(now) and now - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = now
            log.error(
                "THE CERTIFICATE IS ABOUT TO END: nodes will not connect any more",
                file=str(self._tls),
                hours_left=round(left / 3600, 1),
                hint="put a new one into the directory; it is read at once",
            )
