"""The keys that sign participant tokens, in PEM files that operators replace while the process runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from controlplane.adapters.clock import SystemClock
from controlplane.adapters.tokens import Ed25519Signer
from controlplane.adapters.watched import WatchedFile
from controlplane.core.key_ring import KeyRing
from controlplane.errors import InvalidInputError

MAX_KEYS = 8
"""In all files; two are enough for a rotation."""

_BLOCK = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


class SigningKeys:
    """Signs with the first key of the first file; nodes are told all of them (TokenSigner)."""

    def __init__(
        self,
        signers: Sequence[Ed25519Signer],
        files: Sequence[WatchedFile[tuple[Ed25519Signer, ...]]] = (),
        now: Callable[[], float] | None = None,
    ) -> None:
        self._files = files
        self._now = now or SystemClock().now
        self._signers = {signer.kid: signer for signer in signers}
        self._wanted = tuple(self._signers)
        self._ring = KeyRing.of(self._wanted)
        self.problem = ""
        """Why the newest version of the files is not in force; empty when it is."""

    @classmethod
    def generate(cls) -> "SigningKeys":
        """Return a fresh key; its tokens end with the process."""
        return cls([Ed25519Signer.generate()])

    @classmethod
    def open(cls, paths: Sequence[Path]) -> "SigningKeys":
        """Return the keys of files, each with one or more.

        Raises OSError, UnicodeDecodeError, InvalidInputError ("signing-key-invalid").
        """
        files = [WatchedFile(path, parse_keys) for path in paths]
        return cls(_all(files), files)

    def __str__(self) -> str:
        """Return the paths."""
        return ", ".join(map(str, self._files))

    @property
    def is_lasting(self) -> bool:
        """Whether the keys outlive the process."""
        return bool(self._files)

    @property
    def kid(self) -> str:
        """Return the id of the key that signs now."""
        return self._ring.signing

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return a compact JWS with EdDSA and a `kid` header."""
        return self._signers[self._ring.signing].sign(claims)

    def public_keys(self) -> Mapping[str, bytes]:
        """Return kid → raw Ed25519 public key of every key that nodes have to know."""
        known: dict[str, bytes] = {}
        for kid in self._ring.published_at:
            known.update(self._signers[kid].public_keys())
        return known

    def poll(self) -> bool:
        """Look for changed files, which may block; return whether anything changed. Never raises."""
        before = (self._ring, self.problem)
        for file in self._files:
            file.poll()
        self.problem = "; ".join(f"{file}: {file.problem}" for file in self._files if file.problem)
        try:
            wanted = {signer.kid: signer for signer in _all(self._files)} if self._files else {}
        except InvalidInputError as error:
            self.problem = error.detail
            wanted = {}
        if wanted:
            self._signers.update(wanted)
            self._wanted = tuple(wanted)
        self._ring = self._ring.turn(self._wanted, self._now())
        self._signers = {kid: self._signers[kid] for kid in self._ring.published_at}
        return (self._ring, self.problem) != before


def parse_keys(text: str) -> tuple[Ed25519Signer, ...]:
    """Return the keys of a file, in its order. Raises InvalidInputError ("signing-key-invalid")."""
    blocks = _BLOCK.findall(text) or [text]
    return _few([Ed25519Signer.from_pem(block.encode()) for block in blocks[: MAX_KEYS + 1]])


def _all(files: Sequence[WatchedFile[tuple[Ed25519Signer, ...]]]) -> tuple[Ed25519Signer, ...]:
    return _few([signer for file in files for signer in file.value])


def _few(signers: Sequence[Ed25519Signer]) -> tuple[Ed25519Signer, ...]:
    if len(signers) > MAX_KEYS:
        raise InvalidInputError(
            "signing-key-invalid",
            f"there are more than {MAX_KEYS} keys",
            "two are enough: the one that signs, and the one before or after it",
        )
    return tuple(signers)
