"""`thalweg serve`: one control plane process."""

from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from controlplane.adapters.logs import configure_logs
from controlplane.app import run
from controlplane.config import Options, SettingsError, load_settings
from controlplane.errors import ControlPlaneError


def serve(  # noqa: PLR0913, PLR0917 - every flag is one
    topology: Annotated[
        Path, typer.Option(help="Topology YAML; `thalweg topology validate` checks it.")
    ],
    http: Annotated[str, typer.Option(metavar="HOST:PORT", help="The HTTP API listens here.")],
    grpc: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Nodes and gRPC callers come here, with mTLS.")
    ],
    tls_dir: Annotated[Path, typer.Option(help="Folder with ca.pem, cert.pem and key.pem.")],
    api_key_file: Annotated[Path, typer.Option(help="One NAME:SHA256HEX per line.")],
    signing_key: Annotated[
        Path | None,
        typer.Option(help="Ed25519 key in PEM for participant tokens; a fresh one if left out."),
    ] = None,
    turn_secret_file: Annotated[
        Path | None,
        typer.Option(help="Master secret of TURN credentials; no TURN servers if left out."),
    ] = None,
    geoip: Annotated[
        list[Path] | None,
        typer.Option(
            help="City database in MMDB form; repeat it for several, the first answer counts."
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR", help="Proxies whose X-Forwarded-For counts; repeat it for several."
        ),
    ] = None,
    declared_rtts: Annotated[
        bool,
        typer.Option(
            "--declared-rtts",
            help="Trust the topology's round trips instead of measuring; loopback only.",
        ),
    ] = False,
    open_metrics: Annotated[
        bool, typer.Option("--open-metrics", help="Serve /metrics without an API key.")
    ] = False,
) -> None:
    """Run the control plane until SIGINT or SIGTERM."""
    options = Options(
        topology=topology,
        http=http,
        grpc=grpc,
        tls_dir=tls_dir,
        api_key_file=api_key_file,
        signing_key=signing_key,
        turn_secret_file=turn_secret_file,
        geoip=tuple(geoip or ()),
        trusted_proxy=tuple(trusted_proxy or ()),
        declared_rtts=declared_rtts,
        open_metrics=open_metrics,
    )
    configure_logs()
    code, problems = _run(options)
    for problem in problems:
        structlog.get_logger(__name__).error("cannot start", problem=problem)
    raise typer.Exit(code)


def _run(options: Options) -> tuple[int, tuple[str, ...]]:
    """Return the exit code, and what went wrong for people; 2 for settings that cannot work."""
    try:
        uvloop.run(run(load_settings(options)))
    except SettingsError as error:
        return 2, error.problems
    except (OSError, ControlPlaneError) as error:
        return 1, (str(error),)
    return 0, ()
