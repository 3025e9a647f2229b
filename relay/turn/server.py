"""Keeps the TURN server beside this node doing what the last snapshot says.

Rules:

1. Orders are applied level-triggered, and they are in the snapshot on disk: with the control plane and the store away,
   TURN goes on.
2. A secret leaves at its end, by this machine's clock, by which coturn judges the expiry of credentials too.
3. Calls are not cut: secrets and peers change in the database, which coturn reads while it runs. Only a change of
   turnserver.conf (ports, realm, transports, flags) starts it again.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from relay.transport.clock import wall
from relay.turn.config import CONFIG, DATABASE, find_listener, has_tls, render
from relay.turn.database import TurnDatabase
from relay.turn.model import Listener, TurnMode, TurnOrders, TurnSettings
from relay.turn.probe import answers
from relay.turn.process import TurnProcess, installed_version
from relay.turn.version import OLDEST, holes, parse_version, version_text

CHECK_S = 1.0
"""How late a secret leaves, or a new certificate is seen."""

RESYNC_S = 60.0
"""How long a database that somebody else changed or removed stays as it is."""

PEER_LINGER_S = 600.0
"""A peer stays this long after it left the orders: permissions are renewed every five minutes (RFC 8656, section 9),
and a control plane that has just started does not know all nodes yet."""

PROBE_S = 5.0

NOTHING_HEARD = "no orders yet: the control plane has not been heard since the node was made"

log = structlog.get_logger("relay.turn")


@dataclass(slots=True)
class TurnStatus:
    """How it is going, for health and metrics."""

    answering: bool = False
    """The last probe of its port was answered."""
    problem: str = NOTHING_HEARD
    """Why nobody can be served; empty when nothing is known to be wrong."""
    secrets: int = 0
    peers: int = 0
    synced_at: float = 0.0
    """When the database last was as it should be, in seconds since 1970."""
    known_holes: int = 0
    """Published faults of the installed coturn that no configuration closes."""


class TurnServer:
    """One TURN server; `desired` says what it has to do, `run` does it."""

    def __init__(self, settings: TurnSettings) -> None:
        self.status = TurnStatus()
        self.process = TurnProcess(settings.directory / CONFIG)
        self._settings = settings
        self._database = TurnDatabase(settings.directory / DATABASE)
        self._orders: TurnOrders | None = None
        self._heard = False
        self._lingering: dict[str, float] = {}
        """Peer → when it was last wanted, in seconds since 1970."""
        self._changed = asyncio.Event()
        self._listener: Listener | None = None
        self._written: str | None = None
        self._synced: object = None
        self._certificate: object = None

    def desired(self, orders: TurnOrders | None) -> None:
        """Do as these orders say from now on; None: open nothing new."""
        if orders != self._orders or not self._heard:
            self._orders = orders
            self._heard = True
            self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled; what goes wrong is logged, counted and tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check_version())
            tasks.create_task(self._keep())
            tasks.create_task(self._probe())
            if self._settings.mode is TurnMode.RUN:
                tasks.create_task(self.process.run())

    # --- files -----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            problem = await self._apply(wall())
            if problem != self.status.problem:
                self.status.problem = problem
                if problem:
                    log.warning("TURN cannot do as it should", why=problem)
                else:
                    log.info("TURN is as it should be", secrets=self.status.secrets)
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _apply(self, now: float) -> str:
        """Bring the files up to date; return what is wrong, empty for nothing."""
        self._changed.clear()
        try:
            if self._orders is not None:
                return await self._follow(self._orders, now)
            if self._written is not None:
                await self._sync("", (), now)
                return "TURN was taken from this region: live calls go on, nobody new is served"
        except OSError as error:
            return str(error)
        if not self._heard:
            return NOTHING_HEARD
        return "the topology has no TURN server for this region, or the control plane no --turn-secret-file"

    async def _follow(self, orders: TurnOrders, now: float) -> str:
        found = find_listener(orders.listeners, self._settings.host)
        if isinstance(found, str):
            return found
        self._listener = found
        secrets = tuple(one.value for one in orders.secrets if one.not_after > now)
        await self._sync(orders.realm, secrets, now)
        await self._write(render(self._settings, orders.realm, found, orders.transports))
        await self._look_at_certificate()
        if not secrets:
            return "every secret has ended: the control plane has been away for hours"
        if "tls" in orders.transports and not has_tls(self._settings, orders.transports):
            return "clients are offered TLS, and there is no --turn-cert: remove tls from the topology or add one"
        return ""

    async def _sync(self, realm: str, secrets: Sequence[str], now: float) -> None:
        for peer in self._orders.peers if self._orders else ():
            self._lingering[peer] = now
        self._lingering = {
            peer: at for peer, at in self._lingering.items() if now - at <= PEER_LINGER_S
        }
        wanted = (realm, tuple(secrets), tuple(sorted(self._lingering)))
        if wanted == self._synced and abs(now - self.status.synced_at) < RESYNC_S:
            return
        changed = await asyncio.to_thread(self._database.sync, *wanted)
        self._synced = wanted
        self.status.synced_at = now
        self.status.secrets, self.status.peers = len(secrets), len(self._lingering)
        if changed:
            log.info("TURN database changed", secrets=len(secrets), peers=len(self._lingering))

    async def _write(self, text: str) -> None:
        """Write turnserver.conf if it changed, and have coturn start with it."""
        if text == self._written:
            return
        path = self._settings.directory / CONFIG
        changed = await asyncio.to_thread(_write_if_other, path, text)
        if self._settings.mode is TurnMode.FILES and changed:
            log.warning("TURN configuration changed: start coturn again with it", path=str(path))
        elif self._written is not None:
            log.warning("TURN configuration changed: coturn starts again, calls over it break")
        elif changed:
            log.info("TURN configuration written", path=str(path))
        self._written = text
        self.process.start()

    async def _look_at_certificate(self) -> None:
        """Have coturn read a renewed certificate."""
        cert, key = self._settings.cert, self._settings.key
        if cert is None or key is None:
            return
        seen = await asyncio.to_thread(
            lambda: tuple(path.stat().st_mtime_ns for path in (cert, key))
        )
        if self._certificate not in (None, seen):
            log.info("TURN certificate changed: SIGUSR2 has coturn read it", path=str(cert))
            self.process.reload_certificates()
        self._certificate = seen

    # --- health ----------------------------------------------------------------------------------

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S if self.status.answering else CHECK_S)
            if self._listener is None or self._orders is None:
                continue
            host = self._settings.listen[0]
            udp = "udp" in self._orders.transports
            was = self.status.answering
            self.status.answering = await answers(host, self._listener.port, udp=udp)
            if was and not self.status.answering:
                log.warning("TURN does not answer", host=host, port=self._listener.port)
            elif self.status.answering and not was:
                log.info("TURN answers", host=host, port=self._listener.port)

    async def _check_version(self) -> None:
        version = parse_version(await installed_version())
        if version is None:
            log.warning("coturn's version is not known: is turnserver installed here?")
            return
        found = holes(version)
        self.status.known_holes = sum(hole.closed_by is None for hole in found)
        text = version_text(version)
        if version < OLDEST:
            log.warning("coturn is older than any that was tested", version=text)
        for hole in found:
            if hole.closed_by is None:
                log.warning(
                    "coturn has a hole that only a newer one closes",
                    version=text,
                    id=hole.id,
                    what=hole.what,
                    fixed_in=version_text(hole.fixed),
                )
        closed = {hole.id: hole.closed_by for hole in found if hole.closed_by}
        log.info("known holes of coturn that are closed by configuration", version=text, **closed)


def _write_if_other(path: Path, text: str) -> bool:
    """Write a file unless it has this content; all or nothing. Return whether it was written. Raises OSError."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
    return True
