"""API keys of signalling servers and operators: a file of hashes, one key a line.

    NAME:SHA256HEX[:TENANT[:SCOPE,SCOPE]]  # a comment

Several keys may belong to one tenant, which is how a key is rotated: add the new one, move over, remove the old one.
A key is a long random string, so one round of SHA-256 is enough: there is nothing to guess.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controlplane.core.identity import Caller, parse_grant, said
from controlplane.errors import InvalidInputError, UnauthenticatedError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")

MAX_PROBLEMS = 10
"""A file with more bad lines than this is another file."""

SECRET_BYTES = 32
"""Of a key that we make: as many as its hash has."""

_FORM = "NAME:SHA256HEX[:TENANT[:SCOPE,SCOPE]]"
_HINT = "send `Authorization: Bearer KEY` with a key of the --api-key-file"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One line of the file."""

    caller: Caller
    digest: bytes
    """SHA-256 of the key."""
    comment: str = ""

    @classmethod
    def parse(cls, line: str) -> "ApiKey | None":
        """Return the key of a line, None for one without. Raises InvalidInputError, without repeating the hash."""
        entry, _, comment = line.partition("#")
        entry = entry.strip()
        if not entry:
            return None
        name, _, rest = entry.partition(":")
        digest, has_tenant, rest = rest.partition(":")
        tenant, has_scopes, scopes = rest.partition(":")
        if not (_NAME.fullmatch(name) and _HASH.fullmatch(digest)):
            raise InvalidInputError("api-key-file-invalid", f"not {_FORM}")
        granted = parse_grant(
            tenant if has_tenant else None, scopes.split(",") if has_scopes else None
        )
        return cls(Caller(name, *granted), bytes.fromhex(digest), comment.strip())

    def line(self) -> str:
        """Return the line that parses to this."""
        caller = self.caller
        entry = f"{caller.name}:{self.digest.hex()}:{caller.tenant}:{said(caller.scopes)}"
        return f"{entry}  # {self.comment}" if self.comment else entry


class ApiKeys:
    """Tells callers apart by their keys."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._by_digest = {key.digest: key for key in keys}
        self.callers = frozenset(key.caller for key in self._by_digest.values())

    @classmethod
    def parse(cls, text: str) -> "ApiKeys":
        """Return the keys of a file; `#` begins a comment.

        Raises InvalidInputError ("api-key-file-invalid") with the bad lines, without repeating what they hold.
        """
        keys: dict[str, ApiKey] = {}
        digests: set[bytes] = set()
        problems: list[str] = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                key = ApiKey.parse(line)
            except InvalidInputError as error:
                problems.append(f"line {number}: {error.detail}")
                continue
            if key is None:
                continue
            if key.caller.name in keys:
                problems.append(f"line {number}: the name {key.caller.name} is there twice")
            elif key.digest in digests:
                problems.append(f"line {number}: another name has this key already")
            keys.setdefault(key.caller.name, key)
            digests.add(key.digest)
        if not keys and not problems:
            problems.append("it has no key")
        if problems:
            hint = "`thalweg apikey create` writes a line; its second part is the key's SHA-256 in lower case"
            raise InvalidInputError(
                "api-key-file-invalid", "; ".join(problems[:MAX_PROBLEMS]), hint
            )
        return cls(keys.values())

    def __iter__(self) -> Iterator[ApiKey]:
        """Yield the keys in the order of the file."""
        return iter(self._by_digest.values())

    def caller(self, key: str) -> Caller:
        """Return whose key this is. Raises UnauthenticatedError ("api-key-unknown").

        The hash finds the entry, so time could tell about hashes of guesses at most, from which no key follows.
        """
        presented = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
        found = self._by_digest.get(presented)
        if found is None or not hmac.compare_digest(found.digest, presented):
            raise UnauthenticatedError("api-key-unknown", "no such API key", _HINT)
        return found.caller


def bearer(authorization: str | None) -> str:
    """Return the credentials of an Authorization header (RFC 6750, section 2.1).

    Raises UnauthenticatedError ("api-key-missing").
    """
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not credentials.strip():
        raise UnauthenticatedError("api-key-missing", "this call needs an API key", _HINT)
    return credentials.strip()


def name_refusal(name: str) -> str | None:
    """Return why `name` cannot be a key's, or None if it can."""
    return None if _NAME.fullmatch(name) else "it has to be 1 to 64 of A-Z a-z 0-9 . _ -"


def new_key() -> tuple[str, str]:
    """Return a key, `tw_ID_SECRET`, and its id: what people may see and write down, to know which key is meant."""
    id_ = secrets.token_hex(4)
    return f"tw_{id_}_{secrets.token_hex(SECRET_BYTES)}", id_
