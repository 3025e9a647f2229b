"""`thalweg room`: who sits where, and how the edges are linked."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.cli.api_client import DEFAULT_URL, KeyFileOption, UrlOption, connect, path_of
from controlplane.cli.output import (
    Output,
    OutputOption,
    cell,
    command,
    milliseconds,
    show,
    table_of,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Rooms: list them, and see who sits where.",
)


@app.command("list")
def list_rooms(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rooms at a time.")] = 100,
    after: Annotated[
        str | None, typer.Option(metavar="ROOM", help="Begin behind this room.", show_default=False)
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List rooms, in order of id.

    [bold]Example:[/] thalweg room list --limit 20
    """
    with command("room list"):
        answer = connect(url, api_key_file).get("/v1/rooms", limit=limit, after=after)

        def table(console: Console) -> None:
            rows = table_of("ROOM", "PEOPLE", "NODES", right=["PEOPLE"])
            for room in answer["rooms"]:
                rows.add_row(
                    cell(room["id"]), str(room["participants"]), cell(", ".join(room["nodes"]))
                )
            console.print(rows if answer["rooms"] else "No room has anybody.")
            if answer["next"]:
                more = f"thalweg room list --after {escape(answer['next'])}"
                console.print(f"[dim]There are more: {more}[/]")

        show(answer, output, table)


@app.command("show")
def show_room(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="A room's id.")],
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a room: who sits where, the links between its nodes, and the delay that people have.

    [bold]Example:[/] thalweg room show standup
    """
    with command("room show"):
        answer = connect(url, api_key_file).get(path_of("rooms", room))
        show(answer, output, lambda console: _print_room(console, answer))


def _print_room(console: Console, room: dict[str, Any]) -> None:
    people, links = room["participants"], room["cascade"]["links"]
    if not people:
        console.print(f"Nobody is in room {escape(room['id'])}.")
        return
    table = table_of(
        "PARTICIPANT", "ROLE", "NODE", "REGION", "RTT MS", "SOURCE", "MEDIA", right=["RTT MS"]
    )
    for one in people:
        media = ", ".join(track["kind"] for track in one["tracks"])
        table.add_row(
            cell(one["participant"]),
            cell(one["role"]),
            cell(one["node"]),
            cell(one["region"]),
            milliseconds(one["rtt_ms"]),
            cell(one["rtt_source"]),
            cell(media) if one["live"] else "[yellow]not connected yet[/]",
        )
    console.print(table)
    if links:
        numbers = ["RTT MS", "PACKETS", "REPAIRED", "LOST"]
        table = table_of("LINK FROM", "TO", "STATE", *numbers, right=numbers)
        for link in links:
            figures = (str(link[key]) for key in ("packets", "repaired", "lost"))
            table.add_row(
                cell(link["from"]),
                cell(link["to"]),
                cell(link["state"]),
                milliseconds(link["rtt_ms"]),
                *figures,
            )
        console.print()
        console.print(table)
    delay = room["delay"]
    if delay["mean_ms"] is not None:
        console.print(
            f"\nDelay between two people, one way, as estimated: {milliseconds(delay['mean_ms'])} ms in the mean,"
            f" {milliseconds(delay['worst_ms'])} ms at worst."
        )
