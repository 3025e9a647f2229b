"""`thalweg topology`: check a file, compare it, plan it, apply it, and see how the regions are."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand

from controlplane.adapters.topology_schema import json_schema
from controlplane.adapters.topology_yaml import TopologyError, parse_topology
from controlplane.cli.api_client import DEFAULT_URL, KeyFileOption, UrlOption, connect
from controlplane.cli.output import Output, OutputOption, command, show, stderr
from controlplane.cli.topology_apply import ConfirmMoves, apply, plan
from controlplane.cli.topology_files import parse_served, read_topology
from controlplane.cli.topology_report import change_lines, changes_as_data, summary_line
from controlplane.cli.topology_status import status
from controlplane.core.model import Topology
from controlplane.core.topology_diff import diff as topology_diff

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Topology files: check, compare, plan, apply; and how the regions are.",
)

NO_CHANGES, CHANGES = 0, 2
"""Exit codes of `terraform plan -detailed-exitcode`; 1 is an error."""

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What every mistake on the command line is."""


class DetailedExit(TyperCommand):
    """A command whose exit code 2 means changes, so a mistake on the command line has to be 1."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line."""
        try:
            return super().make_context(*args, **kwargs)
        except UsageError as error:
            error.exit_code = 1  # type: ignore[attr-defined]
            raise


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="Topology YAML files.")]) -> None:
    """Check files, and say every mistake with its line and what to do. Exits with 1 if there is one."""
    console = stderr()
    good = True
    for file in files:
        try:
            topology = parse_topology(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            console.print(f"[red]{escape(str(file))}: cannot be read:[/] {escape(str(error))}")
            good = False
        except TopologyError as error:
            for problem in error.problems:
                console.print(escape(str(problem)))
            count = len(error.problems)
            problems = f"{count} problem{'' if count == 1 else 's'}"
            console.print(f"[red]{escape(str(file))}: {problems}[/]")
            good = False
        else:
            print(f"{file}: good ({', '.join(_sizes(topology))})")
    raise typer.Exit(0 if good else 1)


def _sizes(topology: Topology) -> list[str]:
    counts = {"region": len(topology.regions), "link": len(topology.links)}
    return [f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items()]


@app.command()
def schema() -> None:
    """Print the JSON Schema of topology files, as in regions/schema.json: editors complete and check with it."""
    print(json.dumps(json_schema(), indent=2))


@app.command(cls=DetailedExit)
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A topology file.")],
    second: Annotated[
        Path | None,
        typer.Argument(
            metavar="B", help="Another one; when left out, A is compared with what is in force."
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what differs, key by key: from A to B, or from what is in force to A.

    Exits with 0 when nothing differs, 2 when something does, 1 on an error, as
    terraform plan -detailed-exitcode does.

    [bold]Example:[/] thalweg topology diff regions.yaml
    """
    with command("topology diff"):
        if second is None:
            served = connect(url, api_key_file).send("GET", "/v1/topology")
            before, after = parse_served(served.text), read_topology(first).topology
        else:
            before, after = read_topology(first).topology, read_topology(second).topology
        changes = changes_as_data(topology_diff(before, after))

        def table(console: Console) -> None:
            for line in change_lines(changes):
                console.print(line)
            console.print(summary_line(changes))

        show({"changes": changes}, output, table)
    raise typer.Exit(CHANGES if changes else NO_CHANGES)


app.command()(plan)
app.command(cls=ConfirmMoves)(apply)
app.command()(status)
