"""`thalweg topology plan` and `apply`: see what a topology would do, and put it in force unless somebody was faster."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from controlplane.cli.api_client import (
    DEFAULT_URL,
    PLANNING_S,
    ApiClient,
    ApiError,
    KeyFileOption,
    UrlOption,
    connect,
)
from controlplane.cli.output import CommandError, Output, OutputOption, command, show, stdout
from controlplane.cli.topology_files import PlanFile, read_either, read_topology, write_plan
from controlplane.cli.topology_report import print_plan

ANY_NUMBER = "any"


class ConfirmMoves(TyperCommand):
    """A command whose --confirm-moves may stand alone: then any number of people may be moved."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give the option the value that it may leave out."""
        told = []
        for here, following in zip(args, [*args[1:], ""], strict=True):
            alone = here == "--confirm-moves" and not following.isdigit()
            told.append(f"{here}={ANY_NUMBER}" if alone else here)
        return super().parse_args(ctx, told)


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The topology that you want.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the plan here, for `apply`.", metavar="PLAN.json"),
    ] = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit with 2 when something would change."),
    ] = False,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what a topology would do to the people who are there now; change nothing.

    Who would move, the delay before and after, whose residency rule would break, and what were left of the
    places if any one region were lost.

    [bold]Example:[/] thalweg topology plan regions.yaml --out plan.json && thalweg topology apply plan.json
    """
    with command("topology plan"):
        text = read_topology(file).text
        answer = dry_run(connect(url, api_key_file), text)
        if out is not None:
            write_plan(out, text, answer)

        def table(console: Console) -> None:
            print_plan(console, answer)
            if out is not None:
                console.print(f"\nWritten. To put it in force: thalweg topology apply {out}")

        show(answer, output, table)
    raise typer.Exit(2 if detailed_exitcode and answer["changes"] else 0)


def apply(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A topology, or what `plan --out` wrote.")
    ],
    confirm_moves: Annotated[
        str | None,
        typer.Option(metavar="[N]", help="People may be moved; refuse if more than N would be."),
    ] = None,
    only_look: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")
    ] = False,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a topology in force, if it is still the one that it was planned against.

    A plan is refused when somebody replaced the topology since. When people would have to move, it needs
    --confirm-moves, with a number to refuse more than so many.

    [bold]Example:[/] thalweg topology apply plan.json --confirm-moves 20
    """
    with command("topology apply"):
        limit = _limit(confirm_moves)
        found = read_either(file)
        client = connect(url, api_key_file)
        answer = dry_run(client, found.text)
        if isinstance(found, PlanFile) and found.version != answer["version"]:
            raise CommandError(
                f"The plan is stale: it was made for version {found.version} of the topology, and version"
                f" {answer['version']} is in force.",
                "Plan again: thalweg topology plan FILE --out PLAN.json",
            )
        result: dict[str, Any] = {"applied": False, "version": answer["version"], "dry_run": answer}
        if not only_look:
            if output is Output.TABLE:
                print_plan(stdout(), answer)
            _check_moves(answer, limit)
            result |= {"applied": True, "version": _put(client, found.text, answer["version"])}

        def table(console: Console) -> None:
            if only_look:
                print_plan(console, answer)
                console.print("\nNothing was changed.")
            else:
                console.print(f"\n[bold green]In force[/] as version {result['version']}.")

        show(result, output, table)


def dry_run(client: ApiClient, text: str) -> dict[str, Any]:
    """Return what the control plane says that a topology would do."""
    query = {"dry_run": "true"}
    answer: dict[str, Any] = client.send(
        "PUT", "/v1/topology", yaml=text, query=query, timeout_s=PLANNING_S
    ).json()
    return answer


def _limit(confirm_moves: str | None) -> int | None:
    """Return how many people may be moved; None for any number, 0 when the option is left out."""
    if confirm_moves is None:
        return 0
    if confirm_moves == ANY_NUMBER:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", confirm_moves):
        raise CommandError(
            f"--confirm-moves {confirm_moves}: this is no number of people.",
            "Write --confirm-moves 20, or --confirm-moves alone for any number.",
        )
    return int(confirm_moves)


def _check_moves(answer: dict[str, Any], limit: int | None) -> None:
    moves = answer["plan"]["moves_total"]
    if limit is None or moves <= limit:
        return
    people = f"{moves} {'person' if moves == 1 else 'people'}"
    if not limit:
        raise CommandError(
            f"{people} would move, and that is not confirmed. Nothing was changed.",
            f"If that is right, add --confirm-moves, or --confirm-moves {moves} to allow no more.",
        )
    raise CommandError(
        f"{people} would move, and at most {limit} may. Nothing was changed.",
        "Look at the plan again, or allow more.",
    )


def _put(client: ApiClient, text: str, version: int) -> int:
    try:
        reply = client.send("PUT", "/v1/topology", yaml=text, if_match=f'"{version}"')
    except ApiError as error:
        if error.code != "topology-stale":
            raise
        raise CommandError(
            f"Somebody else was faster: the topology is no longer version {version}. Nothing was changed.",
            "Plan again: thalweg topology plan FILE",
        ) from error
    replaced: int = reply.json()["version"]
    return replaced
