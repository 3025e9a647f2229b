"""What differs and what it would do, for people: symbols as in `terraform plan`, shortages in red."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from controlplane.cli.output import cell, milliseconds, sentence, table_of
from controlplane.core.topology_diff import Change

Json = Mapping[str, Any]

MAX_SHOWN = 20
"""Moves in a table; `-o json` has more."""

_COLOURS = {"+": "green", "~": "yellow", "-": "red"}
_VERBS = {"+": "to add", "~": "to change", "-": "to remove"}


def changes_as_data(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Return changes as the API gives them."""
    return [
        {
            "kind": change.kind.value,
            "section": change.section,
            "name": change.name,
            "keys": [
                {"key": one.key, "before": one.before, "after": one.after} for one in change.keys
            ],
        }
        for change in changes
    ]


def change_lines(changes: Sequence[Json]) -> Iterable[str]:
    """Yield a line for each entry and each of its keys, with markup."""
    for change in changes:
        symbol = change["kind"]
        colour = _COLOURS[symbol]
        yield f"[{colour}]{symbol}[/] {change['section']} [bold]{escape(change['name'])}[/]"
        width = max((len(one["key"]) for one in change["keys"]), default=0)
        for one in change["keys"]:
            key = "" if one["key"] == "value" else f"{one['key']:{width}}  "
            yield f"    {key}{_before_after(one['before'], one['after'], whole=symbol == '-')}"


def _before_after(before: str | None, after: str | None, *, whole: bool) -> str:
    if before is None:
        return f"[green]{escape(after or '')}[/]"
    if after is None:
        return f"[red]{escape(before)}[/]{'' if whole else ' -> [dim](default)[/]'}"
    return f"[red]{escape(before)}[/] -> [green]{escape(after)}[/]"


def summary_line(changes: Sequence[Json]) -> str:
    """Return how many entries change in which way."""
    if not changes:
        return "No changes: both mean the same."
    counts = [(sum(one["kind"] == kind for one in changes), verb) for kind, verb in _VERBS.items()]
    return "[bold]Changes:[/] " + ", ".join(f"{count} {verb}" for count, verb in counts) + "."


def print_plan(console: Console, answer: Json) -> None:
    """Print a dry run: what differs, who would move, what it does to delay and capacity."""
    plan = answer["plan"]
    for line in change_lines(answer["changes"]):
        console.print(line)
    console.print(summary_line(answer["changes"]))
    console.print()
    _print_people(console, plan)
    _print_residency(console, plan)
    _print_delay(console, plan)
    _print_capacity(console, plan)


def _print_people(console: Console, plan: Json) -> None:
    rooms, seen = plan["rooms_total"], plan["rooms_examined"]
    looked = f"{_people(plan['people_examined'])} in {_rooms(seen)}"
    if seen < rooms:
        looked += f" [yellow](of {rooms} rooms: the first {seen} were looked at)[/]"
    total, forced = plan["moves_total"], plan["forced_total"]
    if not total:
        console.print(f"[bold]Nobody would move[/], of {looked}.")
        return
    parts = [f"{forced} because they have to"] if forced else []
    parts += [f"{total - forced} for a better place"] if total > forced else []
    console.print(f"[bold]{_people(total)} would move[/] ({', '.join(parts)}), of {looked}:")
    table = table_of("ROOM", "PARTICIPANT", "FROM", "TO", "GAIN MS", "WHY", right=["GAIN MS"])
    for move in plan["moves"][:MAX_SHOWN]:
        to = cell(move["to_region"]) if move["to_region"] else "[bold red]nowhere[/]"
        table.add_row(
            cell(move["room"]),
            cell(move["participant"]),
            cell(move["from_region"]),
            to,
            milliseconds(move["gain_ms"]),
            sentence(move["because"]),
        )
    console.print(table)
    if total > MAX_SHOWN:
        console.print(f"[dim]… and {total - MAX_SHOWN} more; -o json has up to 1000.[/]")
    if plan["stranded_total"]:
        console.print(
            f"[bold red]{_people(plan['stranded_total'])} would have no place[/]: nobody can take them, so they"
            " would stay on nodes that are to go."
        )


def _print_residency(console: Console, plan: Json) -> None:
    count = plan["residency_breaks_total"]
    if count:
        console.print(
            f"[bold red]Residency:[/] the rule of {_people(count)} would be broken: they move, or have nowhere to go."
        )
    else:
        console.print("Residency: nobody's rule would be broken.")


def _print_delay(console: Console, plan: Json) -> None:
    before, after = plan["delay_before"], plan["delay_after"]
    if not before["rooms"] and not after["rooms"]:
        console.print("Delay: no room has two people who hear each other.")
        return
    console.print(f"\nMean delay between two people, one way, over {_rooms(before['rooms'])}:")
    table = table_of(
        "", "BEFORE MS", "AFTER MS", "CHANGE MS", right=["BEFORE MS", "AFTER MS", "CHANGE MS"]
    )
    for label, key in (("median room", "p50_ms"), ("95th of 100", "p95_ms")):
        was, will = before[key], after[key]
        table.add_row(label, milliseconds(was), milliseconds(will), _change(was, will))
    console.print(table)


def _change(was: float | None, will: float | None) -> str:
    if was is None or will is None:
        return "-"
    gap = will - was
    if abs(gap) < 0.05:
        return "0"
    return f"[{'red' if gap > 0 else 'green'}]{gap:+.1f}[/]"


def _print_capacity(console: Console, plan: Json) -> None:
    console.print("\nPlaces afterwards, and how many were left if the region were lost:")
    numbers = ["NODES", "PLACES", "IN USE", "LEFT IF LOST"]
    table = table_of("REGION", *numbers, "", right=numbers)
    for one in plan["capacity"]:
        left = one["left_if_lost"]
        table.add_row(
            cell(one["region"]),
            str(one["nodes"]),
            str(one["places"]),
            str(one["in_use"]),
            f"[bold red]{left}[/]" if left < 0 else str(left),
            "[yellow]no node has registered: those that the file wants[/]" if one["planned"]
            else "[yellow]no node has registered, none is wanted[/]" if not one["nodes"] else "",
        )  # fmt: skip
    console.print(table)
    short = [one["region"] for one in plan["capacity"] if one["left_if_lost"] < 0]
    if short:
        console.print(
            f"[bold red]Not enough places[/] for everybody if one of these were lost: {', '.join(short)}."
        )


def _people(count: int) -> str:
    return f"{count} {'person' if count == 1 else 'people'}"


def _rooms(count: int) -> str:
    return f"{count} room{'' if count == 1 else 's'}"
