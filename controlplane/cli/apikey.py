"""`thalweg apikey`: the file of API keys that a control plane follows. It holds hashes; a key is shown once."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from controlplane.adapters.clock import SystemClock
from controlplane.adapters.edited import edit_private
from controlplane.api.keys import ApiKey, ApiKeys, name_refusal, new_key
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
from controlplane.core.identity import Caller, Scope, parse_grant, said
from controlplane.errors import InvalidInputError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="API keys: create, list, revoke. A running control plane takes changes over within 2 s.",
)

FileOption = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="The --api-key-file of `serve`.")
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="What the log calls the key's holder.")
]


@app.command()
def create(
    name: NameArgument,
    file: FileOption,
    tenant: Annotated[
        str | None,
        typer.Option(help="Whose rooms it may reach; the default tenant's when left out."),
    ] = None,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="join, read or admin; repeat it for several. join and read when left out. admin reaches all tenants."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a key and add its hash to the file. The key is printed now and never again.

    [bold]Example:[/] thalweg apikey create acme-signalling --file api-keys --tenant acme --scope join --scope read
    """
    with command("apikey create"):
        key, id_ = new_key()
        made = _made(name, key, id_, tenant, scope)

        def add(text: str) -> str:
            keys = _parsed(text, file) if text.strip() else ()
            if any(one.caller.name == name for one in keys):
                hint = f"Choose another name, or first: thalweg apikey revoke {name} --file {file}"
                raise CommandError(f"{file} has a key named {name} already.", hint)
            line_end = "" if not text or text.endswith("\n") else "\n"
            return f"{text}{line_end}{made.line()}\n"

        _edit(file, add)
        show(_said(made) | {"key": key}, output, lambda console: console.print(key, markup=False))
        if output is Output.TABLE:
            stderr().print(
                f"[dim]{cell(name)} of tenant {made.caller.tenant} may {said(made.caller.scopes)}."
                " Only the hash was kept: store the key now.[/]"
            )


@app.command("list")
def list_keys(file: FileOption, output: OutputOption = Output.TABLE) -> None:
    """List the keys of the file: who may what. Nothing in it is secret.

    [bold]Example:[/] thalweg apikey list --file api-keys -o json
    """
    with command("apikey list"):
        keys = [_said(key) for key in _read(file)]

        def table(console: Console) -> None:
            rows = table_of("NAME", "TENANT", "SCOPES", "COMMENT")
            for key in keys:
                scopes = ",".join(key["scopes"])
                rows.add_row(*map(cell, (key["name"], key["tenant"], scopes, key["comment"])))
            console.print(rows)

        show({"keys": keys}, output, table)


@app.command()
def revoke(name: NameArgument, file: FileOption, output: OutputOption = Output.TABLE) -> None:
    """Take a key out of the file; control planes refuse it within 2 s.

    To rotate, create the new key first, move over, then revoke the old one.

    [bold]Example:[/] thalweg apikey revoke acme-signalling --file api-keys
    """
    with command("apikey revoke"):
        gone: list[ApiKey] = []

        def remove(text: str) -> str:
            keys = _parsed(text, file)
            gone.extend(key for key in keys if key.caller.name == name)
            if not gone:
                raise CommandError(
                    f"{file} has no key named {name}.", f"See: thalweg apikey list --file {file}"
                )
            if len(keys) == 1:
                hint = "Create its successor first: a control plane without keys does not start."
                raise CommandError(f"{name} is the only key of {file}.", hint)
            return "".join(
                line
                for line in text.splitlines(keepends=True)
                if (key := ApiKey.parse(line)) is None or key.caller.name != name
            )

        _edit(file, remove)
        show(_said(gone[0]), output, lambda console: console.print(f"{name} is revoked."))


def _made(name: str, key: str, id_: str, tenant: str | None, scopes: list[Scope] | None) -> ApiKey:
    """Return the line of a new key. Raises CommandError for what cannot be granted."""
    refusal = name_refusal(name)
    if refusal is not None:
        raise CommandError(f"{name[:80]!r} is no name of a key: {refusal}.")
    asked = [scope.value for scope in scopes] if scopes else [Scope.JOIN, Scope.READ]
    try:
        granted = parse_grant(tenant, asked)
    except InvalidInputError as error:
        raise CommandError(f"That cannot be granted: {error.detail}.") from error
    day = datetime.fromtimestamp(SystemClock().now(), UTC).date()
    digest = hashlib.sha256(key.encode()).digest()
    return ApiKey(Caller(name, *granted), digest, f"tw_{id_}, {day}")


def _said(key: ApiKey) -> dict[str, Any]:
    scopes = said(key.caller.scopes).split(",")
    return {
        "name": key.caller.name,
        "tenant": key.caller.tenant,
        "scopes": scopes,
        "comment": key.comment,
    }


def _read(file: Path) -> tuple[ApiKey, ...]:
    try:
        return _parsed(file.read_text("utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error


def _parsed(text: str, file: Path) -> tuple[ApiKey, ...]:
    try:
        return tuple(ApiKeys.parse(text))
    except InvalidInputError as error:
        raise CommandError(f"{file}: {error.detail}.", error.hint) from error


def _edit(file: Path, change: Callable[[str], str]) -> None:
    try:
        edit_private(file, change)
    except BlockingIOError as error:
        raise CommandError(f"Somebody else is editing {file} now.", "Try again.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError | UnicodeDecodeError) -> CommandError:
    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return CommandError(f"Cannot read or write {file}: {why or error}.")
