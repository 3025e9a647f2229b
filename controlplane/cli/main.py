"""`thalweg`: the list of commands. Each one's module is imported when it runs, so that `--help` is quick."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Thalweg: a control plane for cascaded WebRTC SFUs.",
)

COMMANDS = {
    "up": ("controlplane.cli.up:up", "Run a whole system on this machine, with a demo page."),
    "demo": (
        "controlplane.cli.demo:demo",
        "Show media going through a cascade, without a browser.",
    ),
    "serve": ("controlplane.cli.serve:serve", "Run the control plane."),
    "simulate": (
        "controlplane.cli.simulate:simulate",
        "Replay a trace of joins: how good would every room have been?",
    ),
    "topology": (
        "controlplane.cli.topology:app",
        "Topology files: validate, diff, plan, apply; and the regions' status.",
    ),
    "node": (
        "controlplane.cli.node:app",
        "Nodes: list, show, drain, undrain; tokens for new ones.",
    ),
    "ca": (
        "controlplane.cli.ca:app",
        "The built-in certificate authority: init, issue, rotate, show.",
    ),
    "apikey": (
        "controlplane.cli.apikey:app",
        "API keys of signalling servers and operators: create, list, revoke.",
    ),
    "doctor": (
        "controlplane.cli.doctor:doctor",
        "Look at everything that usually goes wrong, and say what to do.",
    ),
    "room": ("controlplane.cli.room:app", "Rooms: who sits where, and the links."),
    "explain": (
        "controlplane.cli.explain:explain",
        "Tell why somebody sits where they sit, or where an address would go.",
    ),
}
"""Name → where its function or app is, and one line for `thalweg --help`."""


@app.callback()
def root() -> None:
    """Take part in no command: it makes typer keep the names even if there were only one."""


def _register(name: str, target: str, summary: str) -> None:
    """Add a command that hands all of its arguments, `--help` too, to the one that it stands for."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}

    @app.command(name, help=summary, add_help_option=False, context_settings=settings)
    def forward(context: typer.Context) -> None:
        _load(name, target)(args=context.args, prog_name=f"thalweg {name}")


def _load(name: str, target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return found
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    single.command(name)(found)
    return single


for _name, (_target, _summary) in COMMANDS.items():
    _register(_name, _target, _summary)
