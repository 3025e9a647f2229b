"""Who changed what: one log line for each change, and for each attempt that was refused for who asked.

Lines carry `logger: audit`, so that they can be kept apart and longer. What admins do is kept in the event log too, as
`audit` events that only admins see. Reads are not audited. Of a refused attempt nothing is believed: strangers can
make any number, so their lines are few and count those that were left out.
"""

import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import structlog

from controlplane.core.identity import Caller, Scope
from controlplane.core.learned import network_of
from controlplane.errors import ControlPlaneError
from controlplane.services.ports import Clock
from controlplane.store.base import Store

LOGGER = "audit"
"""Member of every line, to keep them apart by."""

REFUSALS_PER_MINUTE = 30
"""Lines. Somebody who tries keys is seen by a few as well as by all."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)
"""Ids of our own: of all requests of all processes. To roll dice for each would be a twentieth of a repeat's cost."""

log = structlog.get_logger(__name__)


_network = lru_cache(maxsize=1024)(network_of)
"""Signalling servers call thousands of times a second from few addresses."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that would change the state, and where it came from."""

    action: str
    scope: Scope | None
    """What it needs."""
    peer: str | None
    """Address of the connection's other end, or of who is behind our proxies."""
    request: str
    """Id of the request, the caller's or our own."""

    def facts(self, caller: Caller | None) -> dict[str, object]:
        """Return who and what, for the log: of an address only its network."""
        return {
            "action": self.action,
            "by": caller.name if caller else None,
            "tenant": caller.tenant if caller else None,
            "from": _network(self.peer) or None,
            "request": self.request,
        }


def accepted_request_id(sent: str | None) -> str:
    """Return the id that a caller gave its request, or one of our own where it gave none that a log can hold."""
    if sent and _REQUEST_ID.fullmatch(sent):
        return sent
    return f"{_PROCESS}{next(_numbers):08x}"


class Audit:
    """Writes the audit log."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._minute = 0
        self._refusals = 0
        """Within this minute."""
        self._left_out = 0
        """Refusals without a line since the last line of one."""

    async def done(self, attempt: Attempt, caller: Caller, facts: Mapping[str, object]) -> None:
        """Note a change that was made."""
        entry = {**facts, **attempt.facts(caller), "result": "done"}
        log.info("audit", logger=LOGGER, **entry)
        await self._keep(attempt, entry)

    async def failed(
        self,
        attempt: Attempt,
        caller: Caller | None,
        error: ControlPlaneError,
        facts: Mapping[str, object],
    ) -> None:
        """Note an attempt that changed nothing, if it is of interest: an admin's, or one that was not allowed.

        Without a caller it is a stranger's, whatever went wrong with it.
        """
        is_refusal = error.status in {401, 403}
        if not (is_refusal or attempt.scope is Scope.ADMIN):
            return
        is_believed = caller is not None and not is_refusal
        if not (is_believed or self._has_line()):
            return
        entry = {**facts, **attempt.facts(caller), "result": error.code}
        if self._left_out and not is_believed:
            entry["left_out"], self._left_out = self._left_out, 0
        log.warning("audit", logger=LOGGER, **entry)
        if is_believed:
            await self._keep(attempt, entry)

    def _has_line(self) -> bool:
        """Return whether another refusal may be written within this minute."""
        minute = int(self._clock.now() // 60)
        if minute != self._minute:
            self._minute, self._refusals = minute, 0
        self._refusals += 1
        allowed = self._refusals <= REFUSALS_PER_MINUTE
        self._left_out += not allowed
        return allowed

    async def _keep(self, attempt: Attempt, entry: Mapping[str, object]) -> None:
        if attempt.scope is not Scope.ADMIN:
            return
        try:
            await self._store.append_event("audit", entry, now=self._clock.now())
        except ControlPlaneError as error:
            # What it is about has happened, and the line has it: the caller must not be told otherwise.
            log.warning("an audit event was not kept", request=attempt.request, why=error.detail)
