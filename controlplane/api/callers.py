"""Who calls: credentials of a request to a Caller, by the files as they are now."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from controlplane.adapters.caller_tokens import NO_TOKENS, CallerTokens
from controlplane.adapters.watched import WatchedFile
from controlplane.api.keys import ApiKeys, bearer
from controlplane.core.addresses import parse_address
from controlplane.core.identity import Caller
from controlplane.errors import TooManyRequestsError, UnauthenticatedError
from guard.buckets import AddressBuckets

POLL_S = 2.0
"""How late a new key works, and a revoked one stops working."""

MAX_CREDENTIALS = 4096
"""Characters. Our keys have 76, JWTs about 400."""

REFUSED_PER_S = 20.0
REFUSED_BURST = 200
"""JWTs of one address that may turn out to be no good; then none is looked at until some time has passed. To check a
signature takes 0.15 ms, so nobody can take more than a few of each thousand milliseconds. Good ones are not counted."""

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class Source(Protocol[_T_co]):
    """Something that a file says; WatchedFile is one."""

    @property
    def value(self) -> _T_co:
        """What is in force."""
        ...

    @property
    def problem(self) -> str:
        """Why the newest version is not; empty when it is."""
        ...

    def poll(self) -> bool:
        """Look for a newer one, which may block; return whether anything changed."""
        ...


@dataclass(frozen=True)
class Fixed(Generic[_T]):
    """No file: what it says never changes."""

    value: _T
    problem: str = ""

    def poll(self) -> bool:
        """Return that nothing changed."""
        return False


def key_file(path: Path) -> Source[ApiKeys]:
    """Return the keys of a file, followed. Raises OSError, ValueError, InvalidInputError ("api-key-file-invalid")."""
    return WatchedFile(path, ApiKeys.parse)


def jwks_file(path: Path | None) -> Source[CallerTokens]:
    """Return the signers of a file, followed; nobody without one. Raises as key_file ("jwks-invalid")."""
    return Fixed(NO_TOKENS) if path is None else WatchedFile(path, CallerTokens.parse)


class Callers:
    """Knows the callers by API key or JWT."""

    def __init__(
        self, keys: Source[ApiKeys], tokens: Source[CallerTokens] = Fixed(NO_TOKENS)
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._refused = AddressBuckets(REFUSED_PER_S, REFUSED_BURST)

    def caller(
        self, authorization: str | None, *, peer: Callable[[], str | None], now: float
    ) -> Caller:
        """Return who sent an Authorization header (RFC 6750, section 2.1); `now` is in seconds since 1970.

        `peer` returns the address that it came from; it is asked for where that matters.

        Raises UnauthenticatedError ("api-key-missing", "api-key-unknown", "credentials-too-long", and those of
        CallerTokens.caller), TooManyRequestsError ("jwts-refused").
        """
        credentials = bearer(authorization)
        if len(credentials) > MAX_CREDENTIALS:
            raise UnauthenticatedError(
                "credentials-too-long", f"they have more than {MAX_CREDENTIALS} characters"
            )
        if len(self._tokens.value) and credentials.startswith("ey") and credentials.count(".") == 2:
            return self._by_token(credentials, peer(), now)
        return self._keys.value.caller(credentials)

    def _by_token(self, token: str, peer: str | None, now: float) -> Caller:
        refused = self._refused.of_address(parse_address(peer or ""))
        if refused.is_empty(now):
            raise TooManyRequestsError(
                "jwts-refused",
                "too many JWTs from this address were refused",
                "come again after Retry-After; the log says why they were; behind a proxy, give --trusted-proxy",
                retry_after_s=1,
            )
        try:
            return self._tokens.value.caller(token, now=now)
        except UnauthenticatedError:
            refused.passes(now)
            raise

    def knows(self, caller: Caller) -> bool:
        """Return whether a caller of before still may what it might."""
        return caller in self._keys.value.callers or caller in self._tokens.value.callers

    async def follow(self, broken: Callable[[str, bool], None]) -> None:
        """Follow the files for ever; `broken` is told for each flag whether its file is not in force as it stands."""
        while True:
            await asyncio.sleep(POLL_S)
            for flag, source in (("api-key-file", self._keys), ("jwks-file", self._tokens)):
                if not await asyncio.to_thread(source.poll):
                    continue
                broken(flag, bool(source.problem))
                if source.problem:
                    log.error(
                        "A FILE OF CREDENTIALS IS BROKEN: the last good one stays in force",
                        flag=flag,
                        file=str(source),
                        problem=source.problem,
                    )
                else:
                    log.info("credentials were read anew", flag=flag, file=str(source))
