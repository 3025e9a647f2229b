"""`thalweg ca`: the built-in certificate authority, in a directory of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.cli.output import CommandError, Output, OutputOption, command, show
from controlplane.core.addresses import parse_address
from controlplane.core.enrolment import host_refusal
from controlplane.core.ids import name_refusal
from controlplane.errors import ControlPlaneError

if TYPE_CHECKING:  # `cryptography` takes a tenth of a second, and `--help` needs none of it
    from controlplane.adapters.ca import CertificateAuthority

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The built-in certificate authority: make one, issue certificates, replace it.",
)

DirOption = Annotated[
    Path, typer.Option("--dir", metavar="DIR", help="The authority's directory; keep it secret.")
]

DAYS = 90
"""Of certificates that are issued by hand. Nodes renew theirs daily by themselves."""

KINDS = ("controlplane", "signalling", "client")


@app.command()
def init(directory: DirOption, output: OutputOption = Output.TABLE) -> None:
    """Make an authority, good for ten years.

    [bold]Example:[/] thalweg ca init --dir /etc/thalweg/ca
    """
    from controlplane.adapters import authority  # noqa: PLC0415

    with command("ca init"), _told():
        made = authority.create(directory, now=_now())
        _show(made, directory, output)


@app.command()
def rotate(
    directory: DirOption,
    finish: Annotated[
        bool, typer.Option("--finish", help="Stop trusting the authority before.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a new authority take over; nothing that runs notices.

    Issue the certificates of control planes and signalling servers anew; nodes get theirs by themselves within a day.
    After that, --finish ends the trust in the old one.

    [bold]Example:[/] thalweg ca rotate --dir /etc/thalweg/ca
    """
    from controlplane.adapters import authority  # noqa: PLC0415

    with command("ca rotate"), _told():
        step = authority.finish if finish else authority.rotate
        _show(step(directory, now=_now()), directory, output)


@app.command()
def issue(
    who: Annotated[
        str,
        typer.Argument(
            metavar="WHO", help="controlplane/NAME, signalling/NAME or region/REGION/node/NODE."
        ),
    ],
    directory: DirOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A --tls-dir to write.")],
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A DNS name or address that others call; repeat it."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=825, help="Until it has to be replaced.")] = DAYS,
) -> None:
    """Issue a certificate: ca.pem, cert.pem and key.pem. A process that uses the directory reads them at once.

    [bold]Example:[/] thalweg ca issue controlplane/one --dir ca --out tls --name control.example.net
    """
    from controlplane.adapters import authority  # noqa: PLC0415

    with command("ca issue"), _told():
        _check_subject(who)
        names = name or []
        for one in names:
            if (why := host_refusal(one)) is not None:
                raise CommandError(f"{why}.", "Give names that others call, without a port.")
        addresses = [one for one in names if parse_address(one) is not None]
        bundle = authority.load(directory).issue(
            f"spiffe://thalweg/{who}",
            dns_names=[one for one in names if one not in addresses],
            ip_addresses=addresses,
            now=_now(),
            lifetime=timedelta(days=days),
        )
        bundle.write(out)
        Console(stderr=True, highlight=False).print(
            f"Wrote {escape(str(out))}/ca.pem, cert.pem and key.pem for spiffe://thalweg/{escape(who)}."
        )


@app.command("show")
def show_authority(directory: DirOption, output: OutputOption = Output.TABLE) -> None:
    """Show the authority: its hash, which join tokens carry, and its end.

    [bold]Example:[/] thalweg ca show --dir /etc/thalweg/ca -o json
    """
    from controlplane.adapters import authority  # noqa: PLC0415

    with command("ca show"), _told():
        _show(authority.load(directory), directory, output)


def _check_subject(who: str) -> None:
    """Raise CommandError unless this is a path of a SPIFFE ID that means something here."""
    kind, _, rest = who.partition("/")
    names = rest.split("/")
    if kind == "region" and len(names) == 3 and names[1] == "node":
        del names[1]
    elif kind not in KINDS or len(names) != 1:
        names = [""]
    if all(name_refusal(name) is None for name in names):
        return
    raise CommandError(
        f"{who[:100]!r} is nobody that takes part.",
        "Write controlplane/NAME, signalling/NAME or region/REGION/node/NODE, in a-z, 0-9 and -.",
    )


def _show(authority: "CertificateAuthority", directory: Path, output: Output) -> None:
    from controlplane.adapters.ca import pin_of  # noqa: PLC0415

    before = authority.previous
    facts: dict[str, Any] = {
        "hash": authority.pin(),
        "begins": authority.certificate.not_valid_before_utc.isoformat(),
        "ends": authority.certificate.not_valid_after_utc.isoformat(),
        "trusted_too": [pin_of(before)] if before is not None else [],
        "trust_file": str(directory / "ca.pem"),
    }

    def table(console: Console) -> None:
        for label, value in facts.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            console.print(f"[bold]{label.replace('_', ' '):11}[/] {escape(shown or '-')}")

    show(facts, output, table)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what goes wrong into words."""
    try:
        yield
    except ControlPlaneError as error:
        raise CommandError(f"{error.detail}.", error.hint) from error
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error


def _now() -> datetime:
    from controlplane.adapters.clock import SystemClock  # noqa: PLC0415

    return datetime.fromtimestamp(SystemClock().now(), UTC)
