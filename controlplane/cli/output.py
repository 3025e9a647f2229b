"""How commands print: a table for people, JSON or YAML for programs; and the words of a failure.

The answer goes to stdout, everything else to stderr, so that `-o json` can always be piped.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | refused, not found, or not reachable; stderr says what and what to do |
| 2 | the command line is wrong; for `topology diff`, which does as `terraform plan -detailed-exitcode` does: changes |
| 130 | Ctrl-C |
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from io import StringIO
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

MAX_SENTENCE = 100
"""Characters of a sentence in a table."""

PIPED_WIDTH = 200
"""Columns of a table that goes into a file or a pipe, where nobody folds lines."""


class Output(StrEnum):
    """What an answer is printed as."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="table for people, json or yaml for programs.")
]


class CommandError(Exception):
    """A command cannot go on: what is wrong in a sentence, and what to do next."""

    def __init__(self, message: str, hint: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)
        """Further lines, such as each mistake of a file."""


def stdout() -> Console:
    """Return a console for the answer."""
    return Console(
        highlight=False,
        soft_wrap=not sys.stdout.isatty(),
        width=None if sys.stdout.isatty() else PIPED_WIDTH,
    )


def stderr() -> Console:
    """Return a console for everything else."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def show(data: Any, output: Output, table: Callable[[Console], None]) -> None:
    """Print `data`, which has to be what JSON can say; `table` prints the same for people."""
    if output is Output.JSON:
        print(json.dumps(data, indent=2, ensure_ascii=False))
    elif output is Output.YAML:
        print(as_yaml(data), end="")
    else:
        table(stdout())


def as_yaml(data: Any) -> str:
    """Return data as a YAML document, in the order in which it comes."""
    # Its import takes a tenth of a second, and few ask for YAML.
    from ruamel.yaml import YAML  # noqa: PLC0415

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 4096
    text = StringIO()
    yaml.dump(data, text)
    return text.getvalue()


def table_of(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return a table as kubectl's are: words in columns, no frame. The columns named in `right` are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        numbers = column in right
        table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers)
    return table


def cell(value: object) -> RenderableType:
    """Return a value as a cell: whatever brackets it has are its own, and nothing is a dash."""
    return "-" if value is None or value == "" else escape(str(value))


def sentence(text: str) -> RenderableType:
    """Return a sentence as a cell, cut to a line; `-o json` has all of it."""
    return cell(text if len(text) <= MAX_SENTENCE else text[: MAX_SENTENCE - 1].rstrip() + "…")


def milliseconds(value: float | None) -> str:
    """Return a time for a table."""
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) < 10 else f"{value:.0f}"


def percent(fraction: float) -> str:
    """Return a fraction for a table."""
    return f"{fraction * 100:.0f} %"


def seconds_text(seconds: float) -> str:
    """Return a time as people write it: 45s, 3m20s, 2h05m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if not hours:
        return f"{minutes}m{rest:02}s" if rest else f"{minutes}m"
    return f"{hours}h{minutes:02}m" if minutes else f"{hours}h"


_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


def duration(text: str) -> float:
    """Return the seconds of a duration: 90s, 10m, 1h, 1h30m, or bare seconds. Raises typer.BadParameter."""
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None or len(text) > 20:
        raise typer.BadParameter(f"{text[:40]!r} is no duration: write 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part) if part else 0.0 for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if not math.isfinite(total):
        raise typer.BadParameter(f"{text[:40]!r} is too long")
    return total


@contextmanager
def command(name: str) -> Iterator[None]:
    """End `thalweg NAME` with exit code 1 and the words of a CommandError, if there is one."""
    try:
        yield
    except CommandError as error:
        console = stderr()
        for line in error.details:
            console.print(escape(line))
        console.print(f"[bold red]thalweg {name}:[/] {escape(error.message)}")
        if error.hint:
            console.print(f"  {escape(error.hint)}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # The reader of a pipe, such as head, has seen enough; nothing is left to flush at exit.
        sys.stdout = StringIO()
        raise typer.Exit(0) from None
