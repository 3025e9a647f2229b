"""`thalweg topology`: work on topology files without a running system."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.adapters.topology_schema import json_schema
from controlplane.adapters.topology_yaml import TopologyError, parse_topology

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Check topology files.")


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="Topology YAML files.")]) -> None:
    """Check files, and say every mistake with its line and what to do. Exits with 1 if there is one."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
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
            console.print(f"[red]{escape(str(file))}: {len(error.problems)} problems[/]")
            good = False
        else:
            regions, links = len(topology.regions), len(topology.links)
            print(f"{file}: good ({regions} regions, {links} links)")
    raise typer.Exit(0 if good else 1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of topology files, as in regions/schema.json: editors complete and check with it."""
    print(json.dumps(json_schema(), indent=2))
