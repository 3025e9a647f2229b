"""`thalweg node token`: one-time tokens with which nodes get their first certificate."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from controlplane.cli.api_client import DEFAULT_URL, KeyFileOption, UrlOption, connect
from controlplane.cli.output import (
    Output,
    OutputOption,
    command,
    duration,
    seconds_text,
    show,
    stderr,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="One-time tokens with which nodes get their first certificate.",
)


@app.callback()
def root() -> None:
    """Take part in no command: it makes typer keep the name of the only one."""


@app.command()
def create(
    region: Annotated[str, typer.Option(help="The only region that the node may serve.")],
    node: Annotated[
        str | None, typer.Option(help="The only id that it may have; any if left out.")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A name by which other nodes call it, beside the address it enrols from; repeat it.",
        ),
    ] = None,
    ttl: Annotated[str, typer.Option(help="Until it is worth nothing; 24h at most.")] = "1h",
    url: UrlOption = DEFAULT_URL,
    api_key_file: KeyFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token. It is shown this once, and good for one node.

    [bold]Example:[/] thalweg node token create --region eu-frankfurt --name fra1.example.net > join-token
    """
    ttl_s = duration(ttl)
    with command("node token create"):
        body = {"region": region, "node": node, "names": name or [], "ttl_s": ttl_s}
        answer = connect(url, api_key_file).send("POST", "/v1/node-tokens", body).json()

        def table(console: Console) -> None:
            whose = escape(answer["node"] or "one node")
            stderr().print(
                f"For {whose} of {escape(answer['region'])}, once, within {seconds_text(ttl_s)}."
            )
            console.print(escape(answer["token"]), soft_wrap=True)

        show(answer, output, table)
