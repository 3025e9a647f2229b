"""What reaches the log, and what does not."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiohttp.http_exceptions import BadHttpMessage

from controlplane.adapters.logs import configure_logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def use(*parts: str) -> None:
    token = "-".join(parts)
    raise RuntimeError(len(token))


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_traceback_shows_no_local_variables(stream: io.StringIO) -> None:
    configure_logs(stream)
    try:
        use("tok", "en")
    except RuntimeError:
        structlog.get_logger().exception("failed")
    assert "RuntimeError" in stream.getvalue()
    assert "tok-en" not in stream.getvalue()


def test_bytes_that_are_no_http_fill_no_log() -> None:
    stream = io.StringIO()
    configure_logs(stream)
    server = logging.getLogger("aiohttp.server")
    for fault in (BadHttpMessage("noise"), OSError("ours")):
        server.error("Error handling request", exc_info=fault)
    assert "noise" not in stream.getvalue()
    assert "ours" in stream.getvalue()
