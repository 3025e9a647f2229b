"""`thalweg serve`: one control plane process."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from controlplane.app import run
from controlplane.config import Options, SettingsError, load_settings
from controlplane.errors import ControlPlaneError
from guard.logs import configure_logs


class LogLevel(StrEnum):
    """What reaches the log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


def serve(  # noqa: PLR0913, PLR0917 - every flag is one
    topology: Annotated[
        Path, typer.Option(help="Topology YAML; `thalweg topology validate` checks it.")
    ],
    http: Annotated[str, typer.Option(metavar="HOST:PORT", help="The HTTP API listens here.")],
    grpc: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Nodes and gRPC callers come here, with mTLS.")
    ],
    tls_dir: Annotated[Path, typer.Option(help="Folder with ca.pem, cert.pem and key.pem.")],
    api_key_file: Annotated[Path, typer.Option(help="Who may call; `thalweg apikey` writes it.")],
    jwks_file: Annotated[
        Path | None,
        typer.Option(help="Public keys of callers that sign short JWTs, as a JWK set."),
    ] = None,
    signing_key: Annotated[
        list[Path] | None,
        typer.Option(
            help="Ed25519 key in PEM for participant tokens, a fresh one if left out; repeat it for"
            " keys that nodes should know too. The first signs."
        ),
    ] = None,
    ca_dir: Annotated[
        Path | None,
        typer.Option(help="Sign nodes' certificates with this authority; see `thalweg ca`."),
    ] = None,
    enroll: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="New nodes come here with a join token; needs --ca-dir."
        ),
    ] = None,
    grpc_advertise: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where nodes reach --grpc, if elsewhere; they learn of all replicas by it.",
        ),
    ] = None,
    turn_secret_file: Annotated[
        Path | None,
        typer.Option(
            help="Master secrets of TURN, one a line, the newest first; no TURN servers if left out."
        ),
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
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Share state with other replicas: redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER or"
            " redis+cluster://HOST:PORT,HOST:PORT; rediss… for TLS. In memory if left out.",
        ),
    ] = None,
    redis_password_file: Annotated[
        Path | None,
        typer.Option(help="The password of Redis, and on a second line that of the Sentinels."),
    ] = None,
    replica_id: Annotated[
        str | None,
        typer.Option(help="This replica's own name among all; made up if left out."),
    ] = None,
    open_metrics: Annotated[
        bool, typer.Option("--open-metrics", help="Serve /metrics without an API key.")
    ] = False,
    tenant_rate: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Requests a second that each tenant may make on average; any number if left out.",
        ),
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(help="Lines from here up; none carries a credential.")
    ] = LogLevel.INFO,
) -> None:
    """Run the control plane until SIGINT or SIGTERM."""
    options = Options(
        topology=topology,
        http=http,
        grpc=grpc,
        tls_dir=tls_dir,
        api_key_file=api_key_file,
        jwks_file=jwks_file,
        signing_key=tuple(signing_key or ()),
        ca_dir=ca_dir,
        enroll=enroll,
        grpc_advertise=grpc_advertise,
        turn_secret_file=turn_secret_file,
        geoip=tuple(geoip or ()),
        trusted_proxy=tuple(trusted_proxy or ()),
        declared_rtts=declared_rtts,
        open_metrics=open_metrics,
        redis=redis,
        redis_password_file=redis_password_file,
        replica_id=replica_id,
        tenant_rate=tenant_rate,
    )
    configure_logs(level=log_level.value)
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
