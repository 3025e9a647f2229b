"""`thalweg demo`: real participants in three regions, no browser; the exit code says whether media came through."""

import asyncio
import json
import logging
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.adapters.topology_yaml import TopologyError, parse_topology
from controlplane.cli.children import Child
from controlplane.cli.demo_api import DemoApi, DemoError
from controlplane.cli.demo_report import Report, print_report
from controlplane.cli.demo_run import DemoRun
from controlplane.cli.local_setup import LocalSetupError, SystemPlan, free_port
from controlplane.cli.local_topology import load_local_topology
from controlplane.cli.running import run_command
from controlplane.cli.supervisor import local_system
from controlplane.cli.up import LogPrinter, prepared_system
from controlplane.core.model import Topology

INTERRUPTED = 130
"""The shell's code for a command that Ctrl-C ended."""


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    kill_node: Annotated[
        bool, typer.Option("--kill-node", help="Kill one node in mid-call and show the fail-over.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(envvar="THALWEG_URL", help="A running control plane; starts its own if none."),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="THALWEG_API_KEY", help="The key for --url.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, max=3600, help="How long to count once everybody decodes.")
    ] = 3.0,
) -> None:
    """Put a real participant into each of three regions, and count what they decode of each other."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    # It warns of every frame before a key frame.
    logging.getLogger("aiortc").setLevel(logging.ERROR)
    try:
        if url is None:
            code = _self_started(seconds, console, kill_node=kill_node, as_json=as_json)
        else:
            key = _key_for(url, api_key, kill_node=kill_node)
            going = _against(url, key, seconds, console, as_json=as_json)
            code = run_command(going, when_stopped=INTERRUPTED)
    except (DemoError, LocalSetupError) as error:
        console.print(f"[bold red]thalweg demo:[/] {escape(str(error))}")
        code = 2
    raise typer.Exit(code)


def _key_for(url: str, api_key: str | None, *, kill_node: bool) -> str:
    if kill_node:
        raise DemoError(
            f"--kill-node kills a process, and those of {url} are not ours:"
            " leave --url and THALWEG_URL out, so that the demo starts its own system"
        )
    if urlsplit(url).scheme not in ("http", "https"):
        raise DemoError(f"{url} is no URL: it begins with http:// or https://")
    if not api_key:
        raise DemoError(f"{url} wants a key: give --api-key or THALWEG_API_KEY")
    return api_key


def _self_started(seconds: float, console: Console, *, kill_node: bool, as_json: bool) -> int:
    local = load_local_topology()
    with prepared_system(local, None, free_port(set())) as plan:
        going = _own_system(
            plan, local.topology, seconds, console, kill_node=kill_node, as_json=as_json
        )
        return run_command(going, when_stopped=INTERRUPTED)


async def _own_system(
    plan: SystemPlan,
    topology: Topology,
    seconds: float,
    console: Console,
    *,
    kill_node: bool,
    as_json: bool,
) -> int:
    killed: list[str] = []

    def died(child: Child) -> None:
        if child.name not in killed:
            console.print(f"[bold red]{child.name} {child.death()}.[/]")

    log = LogPrinter(console, plan, verbose=False)
    with console.status("starting a control plane and its nodes") as status:
        async with local_system(plan, log, died) as system:
            log.ready()

            def kill(node: str) -> None:
                killed.append(node)
                system.kill(node)

            async with DemoApi(plan.http_url, plan.api_key) as api:
                run = DemoRun(api, topology, seconds, lambda text: status.update(escape(text)))
                report = await run.report(kill if kill_node else None)
    return _conclude(report, console, as_json=as_json)


async def _against(
    url: str, api_key: str, seconds: float, console: Console, *, as_json: bool
) -> int:
    with console.status("reading the topology") as status:
        async with DemoApi(url, api_key) as api:
            text = await api.topology_yaml()
            try:
                topology = await asyncio.to_thread(parse_topology, text, "/v1/topology")
            except TopologyError as error:
                raise DemoError(f"{url} serves no usable topology: {error}") from error
            run = DemoRun(api, topology, seconds, lambda text: status.update(escape(text)))
            report = await run.report(None)
    return _conclude(report, console, as_json=as_json)


def _conclude(report: Report, console: Console, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(report.as_json()), flush=True)
        for problem in report.problems:
            console.print(f"[bold red]failed[/]: {escape(problem)}")
    else:
        print_report(Console(highlight=False), report)
    return 0 if report.ok else 1
