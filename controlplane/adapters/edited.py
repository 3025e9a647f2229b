"""Editing a file that a running process follows: one editor at a time, and readers never see half of it."""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path


def edit_private(path: Path, change: Callable[[str], str]) -> None:
    """Replace a file's text by what `change` makes of it ("" for a file that is not there yet), in one step.

    A new file is for its owner's eyes only; an old one keeps owner and mode, or the process that reads it could no
    longer. A symbolic link stays one. Raises OSError (BlockingIOError while another editor is at it),
    UnicodeDecodeError and what `change` raises; then nothing has changed.
    """
    path = path.resolve()
    # The lock is the folder's: the file itself is another one after each edit.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = path.stat() if path.exists() else None
        text = change(path.read_text("utf-8") if before else "")
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                if before:
                    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
                    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(descriptor, before.st_uid, before.st_gid)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        os.fsync(folder)
    finally:
        os.close(folder)
