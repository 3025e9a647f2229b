"""Log lines on stderr: for people when it is a terminal, as JSON otherwise.

Whatever is logged, in debug mode too: no line carries a credential or somebody's whole address, and one cause writes so
many lines a second and no more (redaction.py, line_budget.py). What was left out is counted in `left_out` of the next
line, or in a line of its own when the cause has calmed down.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from aiohttp.http_exceptions import BadHttpMessage
from structlog.typing import EventDict

from guard.line_budget import LineBudget
from guard.redaction import redacted, without_secrets

UNBOUNDED = frozenset({"audit"})
"""Events whose every line counts; whoever writes them bounds what strangers can cause."""

LINES_PER_S, LINES_AT_ONCE = 20.0, 100
"""Of one event: a log at this rate can still be read, and grows by a few kilobytes a second."""

FAULTS_PER_S, FAULTS_AT_ONCE = 0.5, 5
"""Lines with a traceback, which are long, and those of each library: the first few tell as much as thousands."""

CALM_S = 1.0
"""Between two looks for what was left out."""

log = structlog.get_logger(__name__)


def configure_logs(
    stream: TextIO = sys.stderr,
    *,
    level: str = "info",
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send structlog's lines from `level` up, and those of libraries from warning (or debug) up, to a stream.

    `clock` returns seconds that never go back.
    """
    limits = _Limits(clock)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks are plain: the usual ones show local variables, tokens and secrets among them.
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if stream.isatty()
        else structlog.processors.JSONRenderer()
    )
    ending: list[Any] = [
        structlog.processors.format_exc_info,
        lambda _, __, entry: redacted(entry),
        renderer,
        lambda _, __, line: without_secrets(line),
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[limits.bound, *shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
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
    handler.addFilter(limits.passes)
    libraries = logging.DEBUG if level == "debug" else logging.WARNING
    logging.basicConfig(handlers=[handler], level=libraries, force=True)


class _Limits:
    """Bounds lines, by event for ours and by logger for those of libraries."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines = LineBudget(LINES_PER_S, LINES_AT_ONCE)
        self._faults = LineBudget(FAULTS_PER_S, FAULTS_AT_ONCE)
        self._looked_at = 0.0

    def bound(self, _logger: object, _method: str, entry: EventDict) -> EventDict:
        """Drop a line beyond its event's budget, or say in it how many were; a processor."""
        event = str(entry.get("event"))
        if event in UNBOUNDED:
            return entry
        now = self._clock()
        self._tell(now)
        left_out = (self._faults if entry.get("exc_info") else self._lines).take(event, now)
        if left_out is None:
            raise structlog.DropEvent
        if left_out:
            entry["left_out"] = left_out
        return entry

    def passes(self, record: logging.LogRecord) -> bool:
        """Return whether a library's line is within the budget of its logger; a logging filter."""
        now = self._clock()
        left_out = self._faults.take(f"logger {record.name}", now)
        self._tell(now)
        return left_out is not None

    def _tell(self, now: float) -> None:
        if now - self._looked_at < CALM_S:
            return
        self._looked_at = now
        for budget in (self._lines, self._faults):
            for event, count in budget.overdue(now).items():
                log.warning("lines were left out", of=event, left_out=count)


def _is_ours(record: logging.LogRecord) -> bool:
    """Return False for a stranger's bytes that are no HTTP: they get their 400, and anybody can send any number."""
    return not (record.exc_info and isinstance(record.exc_info[1], BadHttpMessage))
