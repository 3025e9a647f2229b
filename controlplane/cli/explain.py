"""`thalweg explain`: why somebody sits where they sit, or where somebody would go."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.cli.api_client import (
    DEFAULT_URL,
    ApiClient,
    KeyFileOption,
    UrlOption,
    connect,
    path_of,
)
from controlplane.cli.output import (
    CommandError,
    Output,
    OutputOption,
    cell,
    command,
    milliseconds,
    show,
    table_of,
)


class RoleChoice(StrEnum):
    """What somebody would do in the room."""

    PUBLISHER = "publisher"
    VIEWER = "viewer"


def explain(  # noqa: PLR0913, PLR0917 - every flag is one
    room: Annotated[str | None, typer.Argument(metavar="ROOM", help="A room's id.")] = None,
    participant: Annotated[
        str | None, typer.Argument(metavar="PARTICIPANT", help="Somebody who is in it.")
    ] = None,
    ip: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="Instead: where would a client of this address go?"),
    ] = None,
    into: Annotated[
        str | None, typer.Option("--room", metavar="R", help="With --ip: the room to join.")
    ] = None,
    role: Annotated[RoleChoice, typer.Option(help="With --ip.")] = RoleChoice.PUBLISHER,
    residency: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TAG",
            help="With --ip: a tag that the region has to carry; repeat it for several.",
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Tell why somebody sits where they sit; or, with --ip, where a client would go, admitting nobody.

    The table has every region: the round trip and how sure it is, then the score; the smallest wins.

    Scores are milliseconds of cost: delay to the others, repairing loss at the edge, load.

    [bold]Examples:[/] thalweg explain standup ana; thalweg explain --ip 203.0.113.7 --room standup --role viewer
    """
    with command("explain"):
        client = connect(url, api_key_file)
        if ip is None:
            if into is not None or residency:
                raise CommandError(
                    "--room and --residency go with --ip.",
                    "For somebody who is there: thalweg explain ROOM PARTICIPANT",
                )
            answer = _of_seat(client, room, participant)
        elif room is not None:
            raise CommandError(
                "Either ROOM and PARTICIPANT, or --ip.",
                f"For an address that joins a room: thalweg explain --ip {ip} --room {room}",
            )
        else:
            require = {"residency": residency} if residency else {}
            body = {"client_ip": ip, "room": into, "role": role.value, "require": require}
            answer = client.send("POST", "/v1/decisions", body).json()
        show(answer, output, lambda console: _print_decision(console, answer))


def _of_seat(client: ApiClient, room: str | None, participant: str | None) -> dict[str, Any]:
    if room is None or participant is None:
        raise CommandError(
            "Whose decision?",
            "Write: thalweg explain ROOM PARTICIPANT, or: thalweg explain --ip ADDR",
        )
    path = path_of("rooms", room, "participants", participant) + "/decision"
    answer: dict[str, Any] = client.get(path)
    return answer


def _print_decision(console: Console, answer: dict[str, Any]) -> None:
    first, *rest = answer["told"]
    console.print(f"[bold{' red' if answer['node'] is None else ''}]{escape(first)}[/]")
    for sentence in rest:
        console.print(escape(sentence))
    if not answer["candidates"]:
        return
    numbers = ["RTT MS", "SCORE", "DELAY", "EDGE", "LOAD"]
    table = table_of(
        "", "REGION", "NODE", "RTT MS", "SOURCE", *numbers[1:], "WHY NOT", right=numbers
    )
    for one in answer["candidates"]:
        chosen = one["region"] == answer["region"] and one["score"] is not None
        terms = one["terms"]
        table.add_row(
            "[green]→[/]" if chosen else "",
            cell(one["region"]),
            cell(answer["node"] if chosen else one["node"]),
            f"{milliseconds(one['rtt_ms'])} ± {milliseconds(one['spread_ms'])}",
            cell(one["rtt_source"]),
            milliseconds(one["score"]),
            *(milliseconds(terms.get(term)) for term in ("delay", "edge", "load")),
            cell(one["refusal"]) if one["refusal"] else _nodes_refused(one),
        )
    console.print()
    console.print(table)


def _nodes_refused(candidate: dict[str, Any]) -> str:
    refused = candidate["refused"]
    if not refused:
        return ""
    node, why = next(iter(refused.items()))
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    return f"[dim]not {escape(node)}{more}: {escape(why)}[/]"
