"""`thalweg up`: a whole system on this machine, in memory, with a demo page."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.adapters.clock import SystemClock
from controlplane.cli.children import Child
from controlplane.cli.demo_site import DemoSite
from controlplane.cli.local_setup import (
    HOST,
    LocalSetupError,
    SystemPlan,
    choose_port,
    plan_system,
    utc,
    write_secrets,
)
from controlplane.cli.local_topology import LocalTopology, load_local_topology, pretended_probes
from controlplane.cli.running import run_command
from controlplane.cli.supervisor import CONTROL_PLANE, LocalSystem, local_system
from controlplane.core.model import RegionId

HTTP_PORT = 8080
DEMO_PORT = 8090
ROUTINE = frozenset({"debug", "info"})
COLOURS = ("cyan", "green", "magenta", "yellow", "blue")


@dataclass(frozen=True, slots=True)
class _Options:
    demo_port: int
    as_json: bool
    verbose: bool


def up(
    topology: Annotated[
        Path | None, typer.Option(help="Topology YAML; the three demo regions when left out.")
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(help=f"The API's port; {HTTP_PORT}, or a free one, when left out."),
    ] = None,
    demo_port: Annotated[
        int | None,
        typer.Option(help=f"The demo page's port; {DEMO_PORT}, or a free one, when left out."),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Keep keys and node state here; a temporary directory when left out."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when ready, for programs.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the processes' routine log lines too.")
    ] = False,
) -> None:
    """Run a control plane and one node per region on this machine, with a demo page. Ctrl-C ends it."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        local = load_local_topology(topology)
        api_port = choose_port(http_port, HTTP_PORT)
        options = _Options(choose_port(demo_port, DEMO_PORT), as_json, verbose)
        for asked, usual, chosen in (
            (http_port, HTTP_PORT, api_port),
            (demo_port, DEMO_PORT, options.demo_port),
        ):
            if asked is None and chosen != usual:
                console.print(
                    f"[bold yellow]! Port {usual} is in use[/] by something else: {chosen} it is."
                )
        with prepared_system(local, state_dir, api_port) as plan:
            code = run_command(_up(plan, local, options, console), when_stopped=0)
    except LocalSetupError as error:
        console.print(f"[bold red]thalweg up:[/] {escape(str(error))}")
        code = 1
    raise typer.Exit(code)


@contextmanager
def prepared_system(
    local: LocalTopology, state_dir: Path | None, http_port: int
) -> Iterator[SystemPlan]:
    """Plan a system and write its secrets; without a `state_dir` all of it is removed at the end.

    Raises LocalSetupError when the directory cannot be written.
    """
    try:
        directory = state_dir or Path(tempfile.mkdtemp(prefix="thalweg-"))
    except OSError as error:
        raise LocalSetupError(f"no temporary directory: {error}") from error
    try:
        plan = plan_system(local.path, list(local.topology.regions), directory.resolve(), http_port)
        try:
            write_secrets(plan, now=utc(SystemClock().now()))
        except OSError as error:
            raise LocalSetupError(f"cannot write below {directory}: {error}") from error
        yield plan
    finally:
        if state_dir is None:
            shutil.rmtree(directory, ignore_errors=True)  # a child may still have been writing


class LogPrinter:
    """Prints the children's log lines with their name in front.

    Routine lines only if `verbose`. Until the system is ready, warnings count as routine: what the set-up lacks is
    said once, by `thalweg up` itself, and a node that waits for the control plane is no news. A failed start shows
    each process's last lines anyway.
    """

    def __init__(self, console: Console, plan: SystemPlan, *, verbose: bool) -> None:
        names = [CONTROL_PLANE, *(node.id for node in plan.nodes)]
        self._colours = dict(zip(names, cycle(COLOURS), strict=False))
        self._width = max(map(len, names))
        self._console = console
        self._hidden = frozenset() if verbose else ROUTINE | {"warning"}

    def ready(self) -> None:
        """Show warnings from now on."""
        self._hidden &= ROUTINE

    def __call__(self, name: str, line: str, level: str) -> None:
        """Print one line, unless it is hidden."""
        if level not in self._hidden:
            colour = self._colours[name]
            self._console.print(f"[{colour}]{name:{self._width}}[/] {escape(line)}")


async def _up(plan: SystemPlan, local: LocalTopology, options: _Options, console: Console) -> int:
    def died(child: Child) -> None:
        last = f" Its last line: {escape(child.tail[-1])}" if child.tail else ""
        console.print(
            f"[bold red]{child.name} {child.death()}.[/] Everything else keeps running.{last}"
        )

    log = LogPrinter(console, plan, verbose=options.verbose)
    site = DemoSite(plan.http_url, plan.api_key, local.path, host=HOST, port=options.demo_port)
    async with local_system(plan, log, died) as system:
        log.ready()
        try:
            await site.start()
        except OSError as error:
            raise LocalSetupError(f"the demo page cannot be served: {error}") from error
        try:
            if options.as_json:
                print(json.dumps(_facts(system, site.url)), flush=True)
            else:
                _print_welcome(Console(highlight=False, soft_wrap=True), system, local, site.url)
            await asyncio.Event().wait()  # until a signal cancels it
        finally:
            await site.stop()
    return 0


def _facts(system: LocalSystem, demo_url: str) -> dict[str, Any]:
    plan = system.plan
    return {
        "http_url": plan.http_url,
        "api_key": plan.api_key,
        "demo_url": demo_url,
        "grpc": f"{HOST}:{plan.grpc}",
        "tls_dir": str(plan.state_dir / "tls" / "client"),
        "ready_s": round(system.ready_s, 2),
        "processes": {name: child.pid for name, child in system.children.items()},
        "nodes": [
            {"id": node.id, "region": node.region, "http_url": f"http://{HOST}:{node.http}"}
            for node in plan.nodes
        ],
    }


def _print_welcome(
    console: Console, system: LocalSystem, local: LocalTopology, demo_url: str
) -> None:
    plan = system.plan
    rows = [
        ("demo page", f"[bold green]{demo_url}[/]"),
        ("API", f"{plan.http_url}   (reference: {plan.http_url}/docs)"),
        ("API key", plan.api_key),
        ("gRPC", f"{HOST}:{plan.grpc}   (certificates: {plan.state_dir}/tls/client)"),
    ]
    for node in plan.nodes:
        title = local.topology.regions[RegionId(node.region)].title
        where = f"http://{HOST}:{node.http}   {title}, media on UDP {node.media}, "
        rows.append((f"node {node.id}", f"{where}pid {system.children[node.id].pid}"))
    width = max(len(label) for label, _ in rows)
    console.print(f"\n[bold]Thalweg is ready[/] after {system.ready_s:.1f} s.\n")
    for label, value in rows:
        console.print(f"{label:{width}}  {value}")
    console.print("\nA join, as your signalling server would ask for it:\n")
    console.print(escape(_example_join(plan, local)))
    console.print("\nReal participants in all regions, without a browser:\n")
    console.print(f"  export THALWEG_URL={plan.http_url} THALWEG_API_KEY={plan.api_key}")
    console.print(f"  {_own_command()} demo\n")
    console.print(
        "Why that join went where it did; ask within a minute, its seat waits no longer for media:\n"
    )
    console.print(f"  {_own_command()} explain standup ana\n")
    console.print(
        "An edge that dies in mid-call: kill -9 one of the nodes' pids, and watch the demo page.\n"
    )
    for missing, production in _lacking(plan):
        console.print(f"[bold yellow]! {missing}[/] [dim]{production}[/]")
    console.print("\nCtrl-C ends it.")


def _lacking(plan: SystemPlan) -> list[tuple[str, str]]:
    """Return what this set-up lacks, and what a real one has instead."""
    geoip = (
        (
            "The GeoIP database is GeoLite2 City of 24 December 2019: old.",
            "Production: a current City MMDB.",
        )
        if plan.geoip
        else (
            "No GeoIP database: without probes, every region looks equally near.",
            "Production: any City MMDB, with --geoip.",
        )
    )
    return [
        (
            "State is in memory: no Redis.",
            "A restart of the control plane forgets what the nodes do not report again.",
        ),
        (
            "No TURN servers: clients behind strict firewalls would fail.",
            "Production: coturn beside the nodes, named in the topology.",
        ),
        geoip,
        (
            "Round trips are the declared ones of the topology: on loopback all measure zero.",
            "Production: clients and nodes measure; --declared-rtts is refused on other addresses.",
        ),
        (
            "Certificates come from a throw-away authority, made for this run.",
            "Production: your own CA, one SPIFFE ID per node (docs/operations.md).",
        ),
    ]


def _own_command() -> str:
    """Return what to type to run this program again from here."""
    program = Path(sys.argv[0])
    if shutil.which(program.name):
        return program.name
    return os.path.relpath(program)


def _example_join(plan: SystemPlan, local: LocalTopology) -> str:
    place = plan.nodes[0].region
    probes = [
        {"region": region, "rtt_ms": [rtt]}
        for region, rtt in pretended_probes(local.topology, place).items()
    ]
    body = json.dumps({"session": "tab-1", "probes": probes})
    return (
        f"  curl -s -X PUT {plan.http_url}/v1/rooms/standup/participants/ana \\\n"
        f"    -H 'Authorization: Bearer {plan.api_key}' -H 'Content-Type: application/json' \\\n"
        f"    -d '{body}'"
    )
