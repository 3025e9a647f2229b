"""docs/operations.md, TURN: its commands, as they are written."""

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import typer

from controlplane.adapters.topology_yaml import parse_topology
from controlplane.adapters.turn_secrets import TurnSecretFile
from controlplane.core.model import RegionId, TurnServer
from relay.config import parser
from relay.turn.model import TurnMode
from relay.turn.settings import turn_settings

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def section() -> str:
    text = PAGE.read_text()
    return text[text.index("\n## TURN\n") : text.index("\n## Day to day\n")]


def blocks(language: str) -> list[str]:
    return [part.split("\n```")[0] for part in section().split(f"```{language}\n")[1:]]


def test_the_node_takes_its_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, _ = blocks("sh")
    command = start.replace("\\\n", " ").splitlines()[-1]
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    words = shlex.split(command.replace("/etc/turn", str(tmp_path)))
    assert words[0] == "thalweg-relay"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "turnserver").write_text("#!/bin/sh\n")
    (tmp_path / "turnserver").chmod(0o700)
    settings = turn_settings(parser().parse_args(words[1:]))
    assert settings is not None
    assert (settings.mode, len(settings.listen)) == (TurnMode.RUN, 2)
    assert settings.directory == Path("/var/lib/thalweg/turn")


def test_the_topology_is_one() -> None:
    (block,) = blocks("yaml")
    region = parse_topology(f"version: 1\n{block}").regions[RegionId("eu-frankfurt")]
    assert region.turn_servers == (TurnServer("turn-fra1.example.net", 3478, 443),)


def test_the_secret_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "turn-secret"
    path.write_text("o" * 64 + "\n")
    path.chmod(0o600)
    watched = TurnSecretFile(path)
    subprocess.run(["sh", "-c", blocks("sh")[1]], check=True, cwd=tmp_path, timeout=10)
    assert watched.poll()
    new, old = watched.masters().secrets
    assert (len(new), old) == (64, b"o" * 64)
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("too short")
    assert watched.poll()
    assert "16 are needed" in watched.problem
    assert watched.masters().secrets == (new, old), "the last good ones stay"


def test_every_flag_that_the_page_speaks_of_exists() -> None:
    spoken = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section()))
    helps = parser().format_help()
    for name in ("doctor", "serve"):
        command = typer.Typer()
        command.command()(getattr(import_module(f"controlplane.cli.{name}"), name))
        flags = typer.main.get_command(command).params
        helps += " ".join(flag for parameter in flags for flag in parameter.opts)
    others = {"--no-install-recommends", "--now"}
    assert {flag for flag in spoken - others if flag not in helps} == set()
