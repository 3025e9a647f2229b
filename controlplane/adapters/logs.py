"""Log lines on stderr: for people when it is a terminal, as JSON otherwise."""

import logging
import sys
from typing import Any, TextIO

import structlog
from aiohttp.http_exceptions import BadHttpMessage


def configure_logs(stream: TextIO = sys.stderr) -> None:
    """Send structlog's lines, and those of libraries from warning up, to a stream."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = stream.isatty()
    ending: list[Any] = (
        # Plain: the usual one shows local variables, tokens and secrets among them.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    handler.addFilter(_is_ours)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _is_ours(record: logging.LogRecord) -> bool:
    """Return False for a stranger's bytes that are no HTTP: they get their 400, and anybody can send any number."""
    return not (record.exc_info and isinstance(record.exc_info[1], BadHttpMessage))
