"""`thalweg topology status`: the regions, what each should have and what it has."""

import time
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from controlplane.cli.api_client import DEFAULT_URL, ApiClient, KeyFileOption, UrlOption, connect
from controlplane.cli.output import (
    CommandError,
    Output,
    OutputOption,
    cell,
    command,
    percent,
    seconds_text,
    show,
    stdout,
    table_of,
)
from controlplane.cli.topology_files import parse_served

SHORTEST_INTERVAL_S = 1.0
"""Two small requests a second, whatever an operator types."""


def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep looking; Ctrl-C ends it.")
    ] = False,
    interval: Annotated[
        float,
        typer.Option(min=SHORTEST_INTERVAL_S, max=3600, help="Seconds between looks with --watch."),
    ] = 2.0,
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the regions: nodes ready of those wanted, people, load, drains, and the topology's version.

    [bold]Example:[/] thalweg topology status --watch
    """
    with command("topology status"):
        client = connect(url, api_key_file)
        if not watch:
            facts = look(client)
            show(facts, output, lambda console: console.print(_view(facts)))
            return
        if output is not Output.TABLE:
            raise CommandError(
                f"--watch is for people: it does not go with -o {output.value}.",
                "Programs read GET /v1/events, or ask again.",
            )
        _watch(client, interval)


def look(client: ApiClient) -> dict[str, Any]:
    """Return how the regions are: those of the topology, then those that only have nodes."""
    served = client.send("GET", "/v1/topology")
    topology = parse_served(served.text)
    nodes = client.get("/v1/nodes")["nodes"]
    regions = [
        _region(id_, region.title, region.desired_nodes, nodes)
        for id_, region in sorted(topology.regions.items())
    ]
    undeclared = sorted({node["region"] for node in nodes} - set(topology.regions))
    regions += [_region(id_, id_, None, nodes) for id_ in undeclared]
    return {"url": client.url, "version": int(served.etag.strip('"') or 0), "regions": regions}


def _region(
    id_: str, title: str, desired: int | None, nodes: list[dict[str, Any]]
) -> dict[str, Any]:
    here = [node for node in nodes if node["region"] == id_]
    alive = [node for node in here if node["state"] != "lost"]
    places = sum(node["capacity"] for node in alive)
    people = sum(node["participants"] for node in alive)
    return {
        "region": id_,
        "title": title,
        "declared": desired is not None,
        "desired": desired or 0,
        "ready": sum(node["state"] == "serving" for node in here),
        "people": people,
        "places": places,
        "load": round(people / places, 4) if places else 0.0,
        "drains": [
            {"node": node["id"], **node["drain"]} for node in here if node["drain"] is not None
        ],
        "trouble": [
            {"node": node["id"], "state": node["state"], "why": node["why"]}
            for node in here
            if node["state"] in {"suspect", "lost", "joining"}
        ],
    }


def _view(facts: dict[str, Any]) -> RenderableType:
    table = table_of("REGION", "TITLE", "NODES", "PEOPLE", "PLACES", "LOAD", "WHAT GOES ON",
                     right=["NODES", "PEOPLE", "PLACES", "LOAD"])  # fmt: skip
    for one in facts["regions"]:
        colour = "green" if one["ready"] >= one["desired"] else "yellow" if one["ready"] else "red"
        load = percent(one["load"])
        table.add_row(
            cell(one["region"]),
            cell(one["title"]),
            f"[{colour}]{one['ready']}/{one['desired'] if one['declared'] else '-'}[/]",
            str(one["people"]),
            str(one["places"]),
            f"[bold red]{load}[/]" if one["load"] >= 0.9 else load,
            "\n".join(_goings_on(one)),
        )
    head = Text.from_markup(
        f"Topology version [bold]{facts['version']}[/] at {escape(facts['url'])}; NODES: serving/wanted"
    )
    return Group(head, table)


def _goings_on(region: dict[str, Any]) -> list[str]:
    lines = [] if region["declared"] else ["[red]not in the topology: takes nobody new[/]"]
    for drain in region["drains"]:
        how = (
            "is drained: nobody is on it"
            if drain["done"]
            else f"drains, {seconds_text(drain['deadline_in_s'])} left"
        )
        reason = f" ({escape(drain['reason'])})" if drain["reason"] else ""
        lines.append(f"{escape(drain['node'])} {how}{reason}")
    lines += [
        f"[yellow]{escape(one['node'])} {one['state']}: {escape(one['why'])}[/]"
        for one in region["trouble"]
    ]
    return lines


def _watch(client: ApiClient, interval: float) -> None:
    console = stdout()
    if not console.is_terminal:
        while True:
            console.print(_look_again(client))
            time.sleep(interval)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_look_again(client), refresh=True)
            time.sleep(interval)


def _look_again(client: ApiClient) -> RenderableType:
    """Return the view, or why there is none: a control plane that restarts is back in a moment."""
    try:
        return _view(look(client))
    except CommandError as error:
        return Text.from_markup(f"[red]{escape(error.message)}[/] [dim]Trying again.[/]")
