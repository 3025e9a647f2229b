"""`thalweg node`: the fleet, and emptying a node for maintenance."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.cli import node_token
from controlplane.cli.api_client import (
    DEFAULT_URL,
    PLANNING_S,
    KeyFileOption,
    UrlOption,
    connect,
    path_of,
)
from controlplane.cli.output import (
    Output,
    OutputOption,
    cell,
    command,
    duration,
    percent,
    seconds_text,
    sentence,
    show,
    table_of,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Nodes: list them, look at one, empty one for maintenance, let one join.",
)
app.add_typer(node_token.app, name="token")

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="A node's id.")]

_COLOURS = {"serving": "green", "draining": "cyan", "lost": "red"}

MAX_SHOWN = 50
"""People in a table of a dry run; `-o json` has up to 1000."""


@app.command("list")
def list_nodes(
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all nodes.

    [bold]Example:[/] thalweg node list -o json
    """
    with command("node list"):
        answer = connect(url, api_key_file).get("/v1/nodes")

        def table(console: Console) -> None:
            numbers = ["PEOPLE", "PLACES", "LOAD"]
            rows = table_of("NODE", "REGION", "STATE", *numbers, "HEARD", "WHY", right=numbers)
            for node in answer["nodes"]:
                rows.add_row(
                    cell(node["id"]),
                    cell(node["region"]),
                    _state(node["state"]),
                    str(node["participants"]),
                    str(node["capacity"]),
                    percent(node["load"]),
                    f"{seconds_text(node['heard_age_s'])} ago",
                    cell(node["why"]),
                )
            console.print(rows if answer["nodes"] else "No node has registered.")

        show(answer, output, table)


@app.command("show")
def show_node(
    node: NodeArgument,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one node.

    [bold]Example:[/] thalweg node show fra-1
    """
    with command("node show"):
        answer = connect(url, api_key_file).get(path_of("nodes", node))
        show(answer, output, lambda console: _print_node(console, answer))


@app.command()
def drain(  # noqa: PLR0913, PLR0917 - every flag is one
    node: NodeArgument,
    deadline: Annotated[
        str,
        typer.Option(metavar="TIME", help="When those who are left are moved: 90s, 10m, 1h."),
    ] = "10m",
    pace: Annotated[
        float | None,
        typer.Option(
            help="People a second who are moved before the deadline; nobody when left out.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option(help="For the people who wonder; it is in the events and the log.")
    ] = "",
    only_look: Annotated[
        bool, typer.Option("--dry-run", help="Say who would go where, change nothing.")
    ] = False,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Empty a node: it takes nobody new, and whoever is left at the deadline is moved.

    Calls go on meanwhile; each move is announced to your signalling server as participant.moved.

    Doing it again replaces deadline, pace and reason; `thalweg node undrain` undoes it.

    [bold]Example:[/] thalweg node drain fra-1 --deadline 10m --pace 5 --reason "new kernel"
    """
    deadline_s = duration(deadline)
    with command("node drain"):
        body = {"deadline_s": deadline_s, "pace": pace, "reason": reason}
        answer = connect(url, api_key_file).send(
            "PUT",
            path_of("nodes", node) + "/drain",
            body,
            query={"dry_run": "true"} if only_look else None,
            timeout_s=PLANNING_S,
        ).json()  # fmt: skip
        show(
            answer,
            output,
            lambda console: (_print_dry_run if only_look else _print_drain)(console, answer),
        )


@app.command()
def undrain(
    node: NodeArgument,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Undo a drain: the node takes people again. Whoever was moved stays where they are.

    [bold]Example:[/] thalweg node undrain fra-1
    """
    with command("node undrain"):
        client = connect(url, api_key_file)
        answer = client.send("DELETE", path_of("nodes", node) + "/drain").json()
        done = f"{escape(answer['id'])} is {_state(answer['state'])}."
        show(answer, output, lambda console: console.print(done))


def _state(state: str) -> str:
    return f"[{_COLOURS.get(state, 'yellow')}]{escape(state)}[/]"


def _print_node(console: Console, node: dict[str, Any]) -> None:
    rows = [
        ("node", escape(node["id"])),
        ("region", escape(node["region"])),
        ("state", _state(node["state"]) + (f" ({escape(node['why'])})" if node["why"] else "")),
        ("people", f"{node['participants']} of {node['capacity']} places"),
        ("load", percent(node["load"])),
        ("heard", f"{seconds_text(node['heard_age_s'])} ago"),
        ("engine", escape(f"{node['engine']}, version {node['version']}")),
        ("address", escape(node["http_url"])),
    ]
    if node["drain"]:
        rows.append(("drain", _drain_text(node["drain"])))
    for label, value in rows:
        console.print(f"[bold]{label:8}[/] {value}")


def _drain_text(drain: dict[str, Any]) -> str:
    if drain["done"]:
        return "done: nobody is on it any more"
    left = drain["deadline_in_s"]
    when = f"everybody left is moved in {seconds_text(left)}" if left else "everybody is moved now"
    pace = drain["pace"]
    return f"{when}, nobody before" if pace is None else f"{when}; until then {_pace(pace)}"


def _pace(pace: float) -> str:
    return "1 person a second" if pace == 1 else f"{pace:g} people a second"


def _print_drain(console: Console, node: dict[str, Any]) -> None:
    name = escape(node["id"])
    people = node["participants"]
    connected = "1 person is" if people == 1 else f"{people or 'no'} people are"
    console.print(f"{name} is {_state(node['state'])} and takes nobody new. {connected.capitalize()} connected;"
                  f" {_drain_text(node['drain'])}.")  # fmt: skip
    console.print(f"[dim]Watch: thalweg node show {name}. Undo: thalweg node undrain {name}.[/]")


def _print_dry_run(console: Console, plan: dict[str, Any]) -> None:
    total, stranded = plan["moves_total"], plan["stranded_total"]
    if not total:
        console.print(f"Nobody is on {escape(plan['node'])}: it would be empty at once.")
        return
    table = table_of("ROOM", "PARTICIPANT", "TO", "REGION", "WHY")
    for move in plan["moves"][:MAX_SHOWN]:
        to = cell(move["to_node"]) if move["to_node"] else "[bold red]nowhere[/]"
        row = (move["room"], move["participant"])
        table.add_row(*map(cell, row), to, cell(move["to_region"]), sentence(move["because"]))
    console.print(table)
    if total > MAX_SHOWN:
        console.print(f"[dim]… and {total - MAX_SHOWN} more; -o json has up to 1000.[/]")
    if stranded:
        console.print(
            f"[bold red]{stranded} of {total} would have no place[/] and stay until there is one: add nodes first."
        )
    else:
        console.print(f"[green]Everybody has a place[/]: {total} of {total}. Nothing was changed.")
