"""Topology YAML (regions/*.yaml) to the core's Topology, with every problem at once.

Three passes, each of which goes on after a fault: the text (yaml_tree), the shape (topology_schema), and
what refers to what. A problem names file, line and column, has a stable code, shows its line, and says
what to do.

| code | meaning |
|---|---|
| TOPO001 | not YAML |
| TOPO002 | too large or nested too deep |
| TOPO003 | a YAML feature that a topology does not use: anchors, aliases, tags, several documents |
| TOPO004 | unknown key |
| TOPO005 | a required key is missing |
| TOPO006 | a value of the wrong type |
| TOPO007 | a value that is not allowed |
| TOPO008 | a key twice |
| TOPO009 | a region that the file does not have |
| TOPO010 | a CIDR that is none, or twice |
| TOPO011 | a link from a region to itself, or a pair of regions twice |
"""

import difflib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controlplane.adapters import topology_schema, yaml_tree
from controlplane.adapters.yaml_tree import Path, YamlTree
from controlplane.core.addresses import parse_network
from controlplane.core.model import Topology
from controlplane.errors import InvalidInputError

MAX_BYTES = 64 * 1024
"""Some hundred regions with comments; the same limit as for request bodies."""

MAX_PROBLEMS = 50
"""More help nobody: they come from one mistake in the indentation."""

MAX_SHOWN = 300
"""Characters of a line, message or hint that are repeated to the caller."""


@dataclass(frozen=True, slots=True)
class TopologyProblem:
    """One thing to mend in a topology file."""

    file: str
    line: int
    """Counted from 1."""
    column: int
    """Counted from 1."""
    code: str
    message: str
    hint: str
    source: str
    """The line as it stands in the file."""

    def __str__(self) -> str:
        """Return the problem as compilers print it: position, code, message, line, caret, hint."""
        caret = " " * min(self.column - 1, MAX_SHOWN) + "^"
        number = f"{self.line:5} | "
        lines = [
            f"{self.file}:{self.line}:{self.column}: {self.code} {self.message}",
            f"{number}{self.source}",
            f"{' ' * (len(number) - 2)}| {caret}",
        ]
        return "\n".join([*lines, f"      = {self.hint}"] if self.hint else lines)


class TopologyError(InvalidInputError):
    """The file is no topology; `problems` says why, in order of lines."""

    def __init__(self, problems: list[TopologyProblem]) -> None:
        first = problems[0]
        where = f"{first.file}:{first.line}:{first.column}"
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(
            "topology-invalid",
            f"{where}: {first.code} {first.message}{more}",
            "mend what `errors` lists; `thalweg topology validate FILE` shows the same with the lines",
            extra={
                "errors": [
                    {
                        "loc": [p.file, p.line, p.column],
                        "msg": p.message,
                        "code": p.code,
                        "hint": p.hint,
                        "source": p.source,
                    }
                    for p in problems
                ]
            },
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, order=True)
class _Found:
    line: int
    column: int
    code: str
    message: str
    hint: str = ""


def parse_topology(text: str, file: str = "topology.yaml") -> Topology:
    """Return the topology that a YAML text describes.

    `file` is the name that problems carry. Raises TopologyError with all of them. Takes up to a second for the
    largest file: call it in a thread when an event loop runs.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        what = f"larger than {MAX_BYTES // 1024} KiB"
        raise TopologyError([TopologyProblem(file, 1, 1, "TOPO002", what, "split the fleet", "")])
    tree = yaml_tree.read(text)
    found = [_from_fault(fault) for fault in tree.faults]
    model: topology_schema.TopologyModel | None = None
    if not any(fault.kind in ("syntax", "depth") for fault in tree.faults):
        found += _references(tree)
        try:
            model = topology_schema.TopologyModel.model_validate(tree.data)
        except ValidationError as error:
            found += [_from_pydantic(tree, details) for details in error.errors()]
    if found or model is None:
        lines = text.splitlines()
        raise TopologyError([_problem(file, lines, one) for one in _sorted(found)])
    return topology_schema.to_topology(model)


def _sorted(found: list[_Found]) -> list[_Found]:
    return sorted(dict.fromkeys(found))[:MAX_PROBLEMS]


def _problem(file: str, lines: list[str], one: _Found) -> TopologyProblem:
    source = lines[one.line - 1] if one.line <= len(lines) else ""
    message, hint = one.message[:MAX_SHOWN], one.hint[:MAX_SHOWN]
    return TopologyProblem(file, one.line, one.column, one.code, message, hint, source[:MAX_SHOWN])


# --- the text -----------------------------------------------------------------------------------

_FAULT_CODES = {
    "syntax": ("TOPO001", "look at this line and the one above: indentation, colons, quotes"),
    "depth": ("TOPO002", "a topology needs six levels"),
    "feature": ("TOPO003", ""),
    "duplicate": ("TOPO008", "keep one of the two"),
}


def _from_fault(fault: yaml_tree.Fault) -> _Found:
    code, hint = _FAULT_CODES[fault.kind]
    return _Found(fault.line, fault.column, code, fault.message, hint)


# --- the shape ----------------------------------------------------------------------------------


def _from_pydantic(tree: YamlTree, details: ErrorDetails) -> _Found:
    loc: Path = tuple(part for part in details["loc"] if part != "[key]")
    kind = details["type"]
    name = _name(loc)
    if not loc:
        line, column = tree.values.get((), (1, 1))
        return _Found(line, column, "TOPO006", "this is not a topology", _EXAMPLES["version"])
    if kind == "extra_forbidden":
        known = _known_keys(loc[:-1])
        line, column = _key_position(tree, loc)
        return _Found(
            line, column, "TOPO004", f"unknown key {name}", _suggestion(str(loc[-1]), known)
        )
    if kind == "missing":
        line, column = _key_position(tree, loc[:-1])
        owner = f" in {_name(loc[:-1])}" if len(loc) > 1 else ""
        return _Found(line, column, "TOPO005", f"{name} is missing{owner}", _example(str(loc[-1])))
    on_key = "[key]" in details["loc"] or details["input"] is None
    line, column = _key_position(tree, loc) if on_key else _value_position(tree, loc)
    if kind.endswith("_type"):
        return _Found(
            line, column, "TOPO006", f"{name}: {_lower(details['msg'])}", _type_hint(details)
        )
    return _Found(line, column, "TOPO007", f"{name}: {_lower(details['msg'])}", _rule(details))


def _name(loc: Path) -> str:
    """Return how to speak of a place: "title", or "links[2]" for an entry of a list."""
    if len(loc) > 1 and isinstance(loc[-1], int):
        return f'"{loc[-2]}[{loc[-1]}]"'
    return f'"{loc[-1]}"' if loc else "the file"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _key_position(tree: YamlTree, loc: Path) -> tuple[int, int]:
    for size in range(len(loc), 0, -1):
        place = tree.keys.get(loc[:size]) or tree.values.get(loc[:size])
        if place:
            return place
    return tree.values.get((), (1, 1))


def _value_position(tree: YamlTree, loc: Path) -> tuple[int, int]:
    return tree.values.get(loc) or _key_position(tree, loc)


def _known_keys(loc: Path) -> list[str]:
    """Return the keys that are allowed at a place, by walking the models along the path."""
    model: Any = topology_schema.TopologyModel
    for part in loc:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = field.annotation if field else None
        else:  # dict[…, Model] or list[Model]: the last argument is what it holds
            model = get_args(model)[-1] if get_args(model) else None
    is_model = isinstance(model, type) and issubclass(model, BaseModel)
    return sorted(model.model_fields) if is_model else []


def _suggestion(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    meant = f'did you mean "{close[0]}"? ' if close else ""
    return f"{meant}known keys here: {', '.join(known)}"


_EXAMPLES = {
    "version": "begin the file with `version: 1`",
    "regions": "add `regions:` with at least one region",
    "location": "add `location: {lat: 50.11, lon: 8.68}`: degrees, for distances",
    "cidr": "add `cidr: 10.20.0.0/16`",
    "region": "add `region:` with the id of a region above",
    "between": "add `between: [one-region, another-region]`",
}


def _example(key: str) -> str:
    return _EXAMPLES.get(key, f"add `{key}:`")


def _type_hint(details: ErrorDetails) -> str:
    given = details["input"]
    if given is None:
        return "the value is empty"
    return f"this is {_NAMES.get(type(given), 'something else')}: {str(given)[:40]!r}"


_NAMES: dict[type, str] = {
    str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list",
    dict: "a mapping",
}  # fmt: skip


def _rule(details: ErrorDetails) -> str:
    if details["type"] == "string_pattern_mismatch":
        return "ids are 1 to 63 of a-z, 0-9 and -, and begin with a letter"
    return ""


# --- what refers to what ------------------------------------------------------------------------


def _references(tree: YamlTree) -> Iterator[_Found]:
    """Check references on the raw data, so that faults of shape elsewhere do not hide them."""
    if not isinstance(tree.data, dict):
        return
    regions = tree.data.get("regions")
    known = sorted(regions) if isinstance(regions, dict) else []
    yield from _links(tree, known)
    yield from _overrides(tree, known)


def _entries(tree: YamlTree, key: str) -> Iterable[tuple[int, dict[str, Any]]]:
    entries = tree.data.get(key)
    pairs = enumerate(entries) if isinstance(entries, list) else ()
    return ((index, entry) for index, entry in pairs if isinstance(entry, dict))


def _unknown(tree: YamlTree, loc: Path, region: str, known: list[str]) -> _Found:
    line, column = _value_position(tree, loc)
    close = difflib.get_close_matches(region, known, n=1)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    hint += f"regions of this file: {', '.join(known[:10])}{', …' if len(known) > 10 else ''}"
    return _Found(line, column, "TOPO009", f'no region "{region}"', hint)


def _links(tree: YamlTree, known: list[str]) -> Iterator[_Found]:
    seen: dict[frozenset[str], int] = {}
    for index, entry in _entries(tree, "links"):
        pair = entry.get("between")
        if not isinstance(pair, list) or not all(isinstance(end, str) for end in pair):
            continue
        loc: Path = ("links", index, "between")
        for end, region in enumerate(pair):
            if region not in known:
                yield _unknown(tree, (*loc, end), region, known)
        line, column = _value_position(tree, loc)
        if len(pair) == 2 and pair[0] == pair[1]:
            yield _Found(line, column, "TOPO011", f'a link from "{pair[0]}" to itself', "remove it")
        first = seen.setdefault(frozenset(pair), line)
        if first != line:
            what = f"the link of {' and '.join(pair)} is here a second time; the first is in line {first}"
            yield _Found(line, column, "TOPO011", what, "one entry holds for both directions")


def _overrides(tree: YamlTree, known: list[str]) -> Iterator[_Found]:
    seen: dict[object, int] = {}
    for index, entry in _entries(tree, "overrides"):
        region, cidr = entry.get("region"), entry.get("cidr")
        if isinstance(region, str) and region not in known:
            yield _unknown(tree, ("overrides", index, "region"), region, known)
        if not isinstance(cidr, str):
            continue
        line, column = _value_position(tree, ("overrides", index, "cidr"))
        fault = _cidr_fault(cidr)
        if fault:
            yield _Found(line, column, "TOPO010", *fault)
        elif seen.setdefault(parse_network(cidr), line) != line:
            what = f"{cidr} is here a second time; the first is in line {seen[parse_network(cidr)]}"
            yield _Found(line, column, "TOPO010", what, "an address range belongs to one region")


def _cidr_fault(cidr: str) -> tuple[str, str] | None:
    try:
        ipaddress.ip_network(cidr)
    except ValueError:
        pass
    else:
        return None
    try:
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return f'"{cidr}" is no CIDR', "write it as 10.20.0.0/16 or 2001:db8::/32"
    return f"{cidr} is an address inside of a range", f"write the range: {network}"
