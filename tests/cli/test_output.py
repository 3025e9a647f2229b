import json

import pytest
import typer
from rich.console import Console
from ruamel.yaml import YAML

from controlplane.cli.output import (
    CommandError,
    Output,
    as_yaml,
    command,
    duration,
    milliseconds,
    seconds_text,
    show,
)

DATA = {"z": 1, "a": [{"x": None, "é": "y: z"}, "no", "1e3", "2026-11-22"], "c": {}, "d": 0.5}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("45", 45), ("1.5s", 1.5), ("0", 0)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "banana", "10 m", "-5s", "m", "1d", "nan", "1h" * 20])
def test_what_is_no_duration_is_said(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)


def test_times_are_written_short() -> None:
    assert [seconds_text(value) for value in (0, 59.6, 60, 200, 3600, 7500, -3)] == [
        "0s", "1m", "1m", "3m20s", "1h", "2h05m", "0s",
    ]  # fmt: skip
    assert [milliseconds(value) for value in (None, 0.04, 9.96, 12.3)] == ["-", "0.0", "10.0", "12"]


def test_yaml_and_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert YAML(typ="safe", pure=True).load(as_yaml(DATA)) == DATA
    assert list(YAML(typ="safe", pure=True).load(as_yaml(DATA))) == ["z", "a", "c", "d"]
    show(DATA, Output.JSON, lambda console: console.print("table"))
    assert json.loads(capsys.readouterr().out) == DATA


def test_a_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    def table(console: Console) -> None:
        console.print("[bold]table[/]")

    show(DATA, Output.TABLE, table)
    assert capsys.readouterr().out == "table\n"


def test_a_failure_is_said_on_stderr_with_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, command("x y"):
        raise CommandError("It is [broken].", "Mend it.", ["line one"])
    assert caught.value.exit_code == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == ["line one", "thalweg x y: It is [broken].", "  Mend it."]
