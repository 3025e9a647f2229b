"""What reaches the log, and what does not."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiohttp.http_exceptions import BadHttpMessage

from guard.logs import FAULTS_AT_ONCE, LINES_AT_ONCE, configure_logs


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


def test_lines_carry_no_credential_and_no_whole_address() -> None:
    for stream in (io.StringIO(), Terminal()):
        configure_logs(stream, level="debug")
        log = structlog.get_logger("x")
        log.info("refused", why="eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbmEifQ.c2ln", peer="203.0.113.77")
        log.info("ready", http="http://203.0.113.5:80")
        logging.getLogger("library").debug("Bearer %s of %s", "dev-12345678", "2001:db8::77")
        fault = RuntimeError("203.0.113.77 sent twjoin.abcdefgh.secret.pin")
        log.error("failed", exc_info=fault)
        text = stream.getvalue()
        assert "203.0.113.0/24" in text
        assert "http://203.0.113.5:80" in text
        assert "RuntimeError" in text
        for secret in ("eyJ", "203.0.113.77", "dev-12345678", "db8::77", "twjoin."):
            assert secret not in text, secret


def test_one_cause_writes_so_many_lines_and_says_what_it_left_out() -> None:
    stream, now = io.StringIO(), [1000.0]
    configure_logs(stream, clock=lambda: now[0])
    log, library = structlog.get_logger("x"), logging.getLogger("asyncio")
    for number in range(10_000):
        log.warning("the same again", number=number)
        log.info("audit", number=number)
        library.error("Task exception was never retrieved %d", number)
    lines = stream.getvalue().splitlines()
    assert sum("the same again" in line for line in lines) == LINES_AT_ONCE
    assert sum("never retrieved" in line for line in lines) == FAULTS_AT_ONCE
    assert sum("audit" in line for line in lines) == 10_000
    now[0] += 60
    log.info("something else")
    text = stream.getvalue()
    assert f'"left_out": {10_000 - LINES_AT_ONCE}' in text
    assert '"of": "logger asyncio"' in text


def test_tracebacks_are_few() -> None:
    stream = io.StringIO()
    configure_logs(stream)
    for _ in range(1000):
        try:
            use("tok", "en")
        except RuntimeError:
            structlog.get_logger().exception("a handler failed")
    assert stream.getvalue().count("Traceback") == FAULTS_AT_ONCE
    assert len(stream.getvalue()) < 10_000
