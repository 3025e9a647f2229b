"""API keys of signalling servers and operators: only their hashes are kept.

A key is a long random string, so one round of SHA-256 is enough: there is nothing to guess.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping

from controlplane.errors import InvalidInputError, UnauthenticatedError

_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<hash>[0-9a-f]{64})")

MAX_PROBLEMS = 10
"""A file with more bad lines than this is another file."""

_HINT = "send `Authorization: Bearer KEY` with a key of the --api-key-file"


class ApiKeys:
    """Tells callers apart by their keys."""

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self._hashes = dict(hashes)
        """Name → SHA-256 of the key."""

    @classmethod
    def parse(cls, text: str) -> "ApiKeys":
        """Return the keys of a file with one `NAME:SHA256HEX` per line; `#` begins a comment.

        Raises InvalidInputError ("api-key-file-invalid") with the bad lines, without repeating what they hold.
        """
        hashes: dict[str, bytes] = {}
        problems: list[str] = []
        for number, line in enumerate(text.splitlines(), 1):
            entry = line.split("#", 1)[0].strip()
            match = _LINE.fullmatch(entry)
            if match and match["name"] not in hashes:
                hashes[match["name"]] = bytes.fromhex(match["hash"])
            elif match:
                problems.append(f"line {number}: the name {match['name']} is there twice")
            elif entry:
                problems.append(f"line {number} is not NAME:SHA256HEX")
        if not hashes and not problems:
            problems.append("it has no key")
        if problems:
            hint = "the second part is the output of `printf %s KEY | sha256sum`, in lower case"
            raise InvalidInputError(
                "api-key-file-invalid", "; ".join(problems[:MAX_PROBLEMS]), hint
            )
        return cls(hashes)

    def caller(self, authorization: str | None) -> str:
        """Return the name that belongs to the value of an Authorization header (RFC 6750, section 2.1).

        Takes the same time for every wrong key. Raises UnauthenticatedError ("api-key-missing",
        "api-key-unknown").
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise UnauthenticatedError("api-key-missing", "this call needs an API key", _HINT)
        presented = hashlib.sha256(key.strip().encode(errors="surrogateescape")).digest()
        found = ""
        for name, known in self._hashes.items():
            if hmac.compare_digest(presented, known):
                found = name
        if not found:
            raise UnauthenticatedError("api-key-unknown", "no such API key", _HINT)
        return found
