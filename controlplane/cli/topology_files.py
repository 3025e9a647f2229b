"""Topology files and plan files, as commands read and write them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.adapters.topology_yaml import TopologyError, parse_topology
from controlplane.cli.output import CommandError
from controlplane.core.model import Topology

PLAN_FORMAT = "thalweg_plan"
"""The key by which a plan file is told from a topology; its value is the format's version."""

MAX_FILE = 16 * 1024 * 1024
"""Bytes; a plan file has the topology, at most 64 KiB, and the moves."""


@dataclass(frozen=True, slots=True)
class TopologyFile:
    """A topology file that was read and found good."""

    text: str
    topology: Topology


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What `plan --out` wrote: the topology, and the version that it was planned against."""

    text: str
    version: int


def read_topology(file: Path) -> TopologyFile:
    """Read a topology file. Raises CommandError with every mistake in it."""
    return _topology(_read(file), file)


def read_either(file: Path) -> TopologyFile | PlanFile:
    """Read a topology or a plan file. Raises CommandError."""
    text = _read(file)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _topology(text, file)
    if not isinstance(found, dict) or PLAN_FORMAT not in found:
        return _topology(text, file)
    match found:
        case {"thalweg_plan": 1, "version": int(version), "topology": str(topology)}:
            return PlanFile(_topology(topology, file).text, version)
        case _:
            raise CommandError(
                f"{file} is a plan that this program cannot read.",
                "Write a new one: thalweg topology plan FILE --out PLAN.json",
            )


def write_plan(file: Path, text: str, answer: Mapping[str, Any]) -> None:
    """Write a plan file: what `apply` needs, and the answer of the dry run for people. Raises CommandError."""
    data = {PLAN_FORMAT: 1, "version": answer["version"], "topology": text, "answer": answer}
    try:
        file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.") from error


def parse_served(text: str) -> Topology:
    """Return the topology that a control plane serves. Raises CommandError when this program does not know it."""
    try:
        return parse_topology(text, "(in force)")
    except TopologyError as error:
        raise CommandError(
            "The topology in force is none that this program can read.",
            "Is the control plane of another version than this command?",
            [str(problem) for problem in error.problems],
        ) from error


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8: {error.reason}.", "Save it as UTF-8.") from error
    if len(text) > MAX_FILE:
        raise CommandError(f"{file} is larger than {MAX_FILE // 1024 // 1024} MiB.")
    return text


def _topology(text: str, file: Path) -> TopologyFile:
    try:
        return TopologyFile(text, parse_topology(text, str(file)))
    except TopologyError as error:
        count = len(error.problems)
        raise CommandError(
            f"{file} has {count} mistake{'' if count == 1 else 's'}.",
            "Mend what is listed above; nothing was sent.",
            [str(problem) for problem in error.problems],
        ) from error
