"""What every test gets: blocking calls inside the event loop fail it; and what a test may ask for."""

import os
import shutil
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

BROWSER = "/usr/bin/chromium"
"""Debian's: it has H264, and Playwright needs to download nothing."""

MAY_BLOCK = (
    # aiortc joins its decoder thread when a receiver stops: at most one small frame's decoding, in clients only.
    ("threading.Lock.acquire", "aiortc/rtcrtpreceiver.py", {"__stop_decoder"}),
    # Handing work to a thread takes the pool's lock, which its threads hold for microseconds.
    ("threading.Lock.acquire", "concurrent/futures/thread.py", {"submit"}),
    ("threading.Lock.acquire", "queue.py", {"put"}),
)
"""(function, file, names of functions in which it may block), each with its reason."""


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Raise BlockingError in a test whose event loop would wait for a disk, a lock or a blocking socket."""
    with blockbuster_ctx(["controlplane", "relay", "guard"]) as guard:
        for function, file, names in MAY_BLOCK:
            guard.functions[function].can_block_in(file, names)
        yield guard


def require(program: str) -> str:
    """Return a program's path. Without it: skip the test by name here, fail it where CI is set.

    tests/setup.sh installs these programs where it may; a CI that could not is a CI that tests less than it says.
    """
    path = BROWSER if program == "chromium" else shutil.which(program)
    if path and os.access(path, os.X_OK):
        return path
    reason = (
        f"{program} is not installed; tests/setup.sh installs it when it runs as root on Debian"
    )
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
