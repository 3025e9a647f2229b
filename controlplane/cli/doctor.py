"""`thalweg doctor`: look at everything that usually goes wrong, and say what to do."""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.adapters.clock import SystemClock
from controlplane.cli.api_client import (
    DEFAULT_URL,
    ApiClient,
    ApiError,
    KeyFileOption,
    UrlOption,
    connect,
)
from controlplane.cli.doctor_checks import (
    EXIT_CODES,
    Check,
    Verdict,
    fail,
    judge_listener_certificate,
    judge_node,
    judge_regions,
    judge_turn,
    ok,
    warn,
    worst,
)
from controlplane.cli.output import (
    CommandError,
    Output,
    OutputOption,
    cell,
    command,
    show,
    stderr,
    table_of,
)
from controlplane.core.model import Region, Topology
from controlplane.core.turn import TurnCredential, TurnMasters, signing_secret, turn_credential

CHECK_S = 6.0
"""Each check's time; most of a minute is over before anybody waits for all of them."""

AT_ONCE = 16
"""Checks at a time: gentle to the fleet, and a thousand nodes are through in minutes even if none answers."""

MAX_NODES = 1000
TURN_USER = "thalweg-doctor"

Probe = Awaitable[list[Check]]

_MARKS = {
    Verdict.OK: "[green]ok[/]",
    Verdict.WARN: "[yellow]warn[/]",
    Verdict.FAIL: "[bold red]fail[/]",
}


@dataclass(slots=True)
class Found:
    """What was found so far."""

    checks: list[Check] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    topology: Topology | None = None
    stuns: Mapping[str, str] = field(default_factory=dict)
    """Region → STUN URI, as clients are told."""


def doctor(  # noqa: PLR0913, PLR0917 - every flag is one
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Instead: look at the node at this URL, from its machine."
        ),
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The control plane's gRPC port, with --tls-dir."),
    ] = None,
    tls_dir: Annotated[
        Path | None, typer.Option(help="Folder with ca.pem, cert.pem and key.pem of a process.")
    ] = None,
    geoip: Annotated[
        list[Path] | None, typer.Option(help="GeoIP file; repeat it for several.")
    ] = None,
    topology: Annotated[
        Path | None, typer.Option(help="Topology file that serve begins with.")
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="As of `thalweg serve`.",
        ),
    ] = None,
    redis_password_file: Annotated[Path | None, typer.Option(help="As of `thalweg serve`.")] = None,
    turn_secret_file: Annotated[
        Path | None, typer.Option(help="As of `thalweg serve`: tries real credentials.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look at ports, clocks, certificates, GeoIP, Redis, nodes and TURN, and say what to do.

    Exit code: 0 all is well, 1 something should not stay so, 2 something does not work. Changes nothing; on each TURN
    server it opens an allocation and gives it back.

    [bold]Example:[/] thalweg doctor --turn-secret-file turn-secret --redis redis+sentinel://s1,s2,s3/thalweg
    """
    with command("doctor"):
        masters, password = _masters(turn_secret_file), _password(redis_password_file)
        files = list(_files(tls_dir, geoip or (), topology))
        more: list[tuple[str, Probe]] = []
        if node is not None:
            more += _node_machine(node)
        if grpc is not None:
            more.append((f"gRPC at {grpc}", _tls_port(grpc, tls_dir)))
        if redis is not None:
            more.append(("Redis", _redis(redis, password)))
        client: ApiClient | None = None
        if node is None:
            try:
                client = connect(url, api_key_file)
            except CommandError as error:
                files.append(fail("api-key", url, error.message, error.hint))
        checks = files + asyncio.run(_look(client, masters, more))
        verdict = worst(checks)
        answer = {"verdict": verdict.value, "checks": [check.record() for check in checks]}
        show(answer, output, lambda console: print_checks(console, checks))
    raise typer.Exit(EXIT_CODES[verdict])


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print what was seen, and below it what to do, the worst first."""
    table = table_of("", "CHECK", "SUBJECT", "SEEN")
    for check in checks:
        table.add_row(_MARKS[check.verdict], check.name, cell(check.subject), cell(check.seen))
    console.print(table)
    troubles = [check for check in checks if check.verdict is not Verdict.OK]
    troubles.sort(key=lambda check: check.verdict is Verdict.WARN)
    if not troubles:
        console.print("\n[green]All is well.[/]")
        return
    console.print("\n[bold]What to do[/]")
    for check in troubles:
        console.print(
            f"{_MARKS[check.verdict]} {escape(check.name)} {escape(check.subject)}: {escape(check.todo)}"
        )


# --- what to look at ------------------------------------------------------------------------------


async def _look(
    client: ApiClient | None, masters: TurnMasters | None, more: list[tuple[str, Probe]]
) -> list[Check]:
    found = Found()
    with stderr().status("asking the control plane …") as status:
        if client is not None:
            await _ask_api(client, found)
            more += _of_fleet(found, masters)
        limit = asyncio.Semaphore(AT_ONCE)
        left = [name for name, _ in more]

        async def run(name: str, probe: Probe) -> list[Check]:
            async with limit:
                checks = await _bounded(name, probe)
            left.remove(name)
            status.update(f"{len(left)} checks left: {escape(', '.join(left[:3]))} …")
            return checks

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(run(name, probe)) for name, probe in more]
    return found.checks + [check for task in running for check in task.result()]


async def _bounded(name: str, probe: Probe) -> list[Check]:
    try:
        async with asyncio.timeout(CHECK_S):
            return await probe
    except TimeoutError:
        todo = "does it run, does the firewall let it through?"
        return [fail("reach", name, f"no answer within {CHECK_S:.0f} s", todo)]


async def _ask_api(client: ApiClient, found: Found) -> None:
    """Learn of the fleet what its API tells, and whether it tells."""
    from controlplane.cli.doctor_probes import probe_http  # noqa: PLC0415 - a tenth of a second
    from controlplane.cli.topology_files import parse_served  # noqa: PLC0415

    found.checks += await _bounded(
        client.url, probe_http("api", client.url, client.url, SystemClock().now)
    )
    if found.checks[0].verdict is Verdict.FAIL:
        return
    try:
        listed = await asyncio.to_thread(client.get, "/v1/nodes")
        found.nodes = listed["nodes"][:MAX_NODES]
        served = await asyncio.to_thread(client.send, "GET", "/v1/topology")
        found.topology = parse_served(served.text)
        plan = await asyncio.to_thread(client.send, "POST", "/v1/probe-plans", {})
        regions = plan.json()["regions"] + plan.json().get("more", [])
        found.stuns = {one["region"]: one["stun"] for one in regions}
    except ApiError as error:
        todo = error.hint or "give a key that may do this: scopes admin and join"
        found.checks.append(fail("api-key", client.url, error.message, todo))
    except CommandError as error:
        found.checks.append(fail("api", client.url, error.message, error.hint))
    else:
        found.checks.append(
            ok("api-key", client.url, "may see nodes and topology, and plan probes")
        )


def _of_fleet(found: Found, masters: TurnMasters | None) -> list[tuple[str, Probe]]:
    """Return the probes of what the API told of."""
    from controlplane.cli.doctor_probes import probe_http, probe_stun  # noqa: PLC0415

    found.checks += [judge_node(node) for node in found.nodes]
    probes: list[tuple[str, Probe]] = [
        (node["id"], probe_http("node-http", node["id"], node["http_url"], SystemClock().now))
        for node in found.nodes
        if node["state"] != "lost"
    ]
    probes += [(f"media of {name}", probe_stun(name, uri)) for name, uri in found.stuns.items()]
    if found.topology is None:
        return probes
    regions = found.topology.regions.values()
    wanted = {str(region.id): region.desired_nodes for region in regions}
    found.checks += judge_regions(wanted, found.nodes)
    for region in regions:
        if not region.turn_servers:
            todo = "declare turn.servers: without TURN one in ten clients cannot connect"
            found.checks.append(warn("turn", region.id, "the region has no TURN server", todo))
        probes += _turn_of(region, masters)
    return probes


def _turn_of(region: Region, masters: TurnMasters | None) -> Iterator[tuple[str, Probe]]:
    """Yield a probe for each server and transport that clients of the region are told of."""
    from controlplane.cli.doctor_turn import TurnTarget  # noqa: PLC0415

    credential: TurnCredential | None = None
    if masters is not None:
        now = SystemClock().now()
        secret = signing_secret(masters, region.id, now)
        credential = turn_credential(secret, TURN_USER, now=now, ttl_s=60)
    for server in region.turn_servers:
        for transport in region.turn_transports:
            port = server.tls_port if transport == "tls" else server.port
            name = f"{region.id} {server.host}:{port} {transport}"
            yield name, _turn(name, TurnTarget(server.host, port, transport), credential)


async def _turn(name: str, target: Any, credential: TurnCredential | None) -> list[Check]:
    from controlplane.cli.doctor_turn import try_turn  # noqa: PLC0415

    tried = await try_turn(target, credential)
    checks = judge_turn(name, tried.seen)
    if tried.certificate_ends is not None:
        now = SystemClock().now()
        checks.append(judge_listener_certificate(name, tried.certificate_ends, now))
    return checks


def _node_machine(url: str) -> list[tuple[str, Probe]]:
    """Return the probes of one node, by its own HTTP server."""
    from controlplane.cli.doctor_probes import probe_http, probe_metrics  # noqa: PLC0415

    base, clock = url.rstrip("/"), SystemClock().now
    return [
        (base, probe_http("node-http", base, base, clock)),
        (f"{base}/metrics", probe_metrics(base, base, clock)),
    ]


def _tls_port(address: str, folder: Path | None) -> Probe:
    from controlplane.cli.doctor_probes import probe_tls_port  # noqa: PLC0415

    return probe_tls_port(address, folder, SystemClock().now)


def _redis(url: str, password: str | None) -> Probe:
    from controlplane.cli.doctor_probes import probe_redis  # noqa: PLC0415

    return probe_redis(url, password, SystemClock().now)


def _password(path: Path | None) -> str | None:
    try:
        return path.read_text("utf-8").strip() if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--redis-password-file cannot be read: {error}") from error


def _files(tls_dir: Path | None, geoip: Sequence[Path], topology: Path | None) -> Iterator[Check]:
    from controlplane.cli.doctor_probes import (  # noqa: PLC0415
        look_at_geoip,
        look_at_tls_files,
        look_at_topology,
    )

    now = SystemClock().now()
    if topology is not None:
        yield from look_at_topology(topology)
    if tls_dir is not None:
        yield from look_at_tls_files(tls_dir, now)
    for path in geoip:
        yield from look_at_geoip(path, now)


def _masters(path: Path | None) -> TurnMasters | None:
    if path is None:
        return None
    from controlplane.adapters.turn_secrets import TurnSecretFile  # noqa: PLC0415

    try:
        return TurnSecretFile(path).masters()
    except (OSError, ValueError) as error:
        raise CommandError(f"--turn-secret-file {path}: {error}") from error
