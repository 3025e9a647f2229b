"""A file that operators replace while the process runs: the last version that was good stays in force."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from controlplane.errors import ControlPlaneError

MAX_SIZE = 16 * 1024 * 1024
"""Bytes. A hundred thousand API keys."""

_T = TypeVar("_T")

_Stamp = tuple[int, int, int]
"""Modification time, size, inode: an editor, `mv` and Kubernetes' symlinks change at least one of them."""


class WatchedFile(Generic[_T]):
    """The parsed content of a file, as of its last good version."""

    def __init__(self, path: Path, parse: Callable[[str], _T]) -> None:
        """Read it now. Raises OSError, UnicodeDecodeError, ValueError, and what `parse` raises."""
        self._path = path
        self._parse = parse
        self._stamp = _stamp(path)
        self.value = parse(_read(path))
        self.problem = ""
        """Why the newest version is not in force; empty when it is."""

    def __str__(self) -> str:
        """Return the path."""
        return str(self._path)

    def poll(self) -> bool:
        """Look whether the file changed, which may block; return whether `value` or `problem` did. Never raises."""
        before = self.problem
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                self.problem = ""
                return bool(before)
            self.value = self._parse(_read(self._path))
            # Only now: a version that could not be read is tried again.
            self._stamp = stamp
            self.problem = ""
        except OSError as error:
            self.problem = f"cannot be read: {error.strerror or error}"
        except (ControlPlaneError, ValueError) as error:
            self.problem = str(error)
        return not self.problem or self.problem != before


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(MAX_SIZE + 1)
    if len(raw) > MAX_SIZE:
        raise ValueError(f"it has more than {MAX_SIZE} bytes")
    return raw.decode()
