"""YAML text to plain data that remembers where each value stood.

Rules of this file:

1. A small, boring YAML: one document, no anchors, aliases or tags, text keys, and scalars typed by the
   Core Schema of YAML 1.2.2 (section 10.3.2), so that `no` is text and `012` is twelve.
2. Faults of structure are collected and reading goes on; only text that is not YAML at all ends it.
3. Built from parser events with a stack of our own. Nothing recurses, so that depth is a number to check
   and not a stack to overflow.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.loader import SafeLoader
from ruamel.yaml.reader import ReaderError

MAX_DEPTH = 12
"""A topology needs six levels. The parser's cost grows with the square of the depth: 20 KB of "[" took
38 s before there was a limit."""

Path = tuple[str | int, ...]

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Something wrong at a place of the text."""

    line: int
    """Counted from 1."""
    column: int
    """Counted from 1."""
    kind: str
    """"syntax", "depth", "feature" or "duplicate"."""
    message: str


@dataclass(slots=True)
class YamlTree:
    """Plain data (dict, list, str, int, float, bool, None) with the position of every key and value."""

    data: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Where the key of a mapping's entry stands: line and column, from 1."""
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Where a value begins."""
    faults: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    """A mapping or sequence whose end has not come yet."""

    path: Path
    value: dict[str, Any] | list[Any]
    key: str | None = None
    """The key that waits for its value."""
    seen: dict[str, int] = field(default_factory=dict)
    """The mapping's keys so far, with their lines."""


def read(text: str) -> YamlTree:
    """Return the tree of a YAML text with all faults found; `data` is what could be read."""
    tree = YamlTree()
    builder = _Builder(tree)
    try:
        for event in _events(text):
            if not builder.take(event):
                break
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = " ".join(filter(None, (error.context, error.problem))) or "this is not YAML"
        tree.faults.append(Fault(line, column, "syntax", what))
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        tree.faults.append(Fault(line, column, "syntax", "a character that YAML does not allow"))
    except YAMLError as error:
        tree.faults.append(Fault(1, 1, "syntax", str(error).splitlines()[0]))
    return tree


def _events(text: str) -> Iterator[Event]:
    """Yield the parser's events. The loader itself, not ruamel's YAML class: that one searches its own folders."""
    loader = SafeLoader(text)
    while loader.check_event():
        yield loader.get_event()


class _Builder:
    def __init__(self, tree: YamlTree) -> None:
        self._tree = tree
        self._stack: list[_Open] = []
        self._documents = 0

    def take(self, event: Event) -> bool:
        """Add one event; return False when reading cannot go on."""
        match event:
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._fault(event, "feature", "a second document; one file holds one topology")
                    return False
            case MappingEndEvent() | SequenceEndEvent():
                self._stack.pop()
            case AliasEvent():
                self._fault(event, "feature", f'an alias ("*{event.anchor}"); write the value out')
                self._add(event, None)
            case ScalarEvent():
                self._check_features(event)
                self._scalar(event)
            case MappingStartEvent() | SequenceStartEvent():
                self._check_features(event)
                return self._open(event)
            case _:
                pass  # the ends of stream and document say nothing
        return True

    def _fault(self, event: Event, kind: str, message: str) -> None:
        mark = event.start_mark
        self._tree.faults.append(Fault(mark.line + 1, mark.column + 1, kind, message))

    def _check_features(self, event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
        if event.anchor:
            self._fault(event, "feature", f'an anchor ("&{event.anchor}"); write the value out')
        tag = getattr(event, "tag", None)  # a property that the stubs do not know
        if tag:
            self._fault(event, "feature", f'a tag ("{tag}"); plain values need none')

    def _open(self, event: MappingStartEvent | SequenceStartEvent) -> bool:
        if len(self._stack) >= MAX_DEPTH:
            self._fault(event, "depth", f"nested deeper than {MAX_DEPTH} levels")
            return False
        if self._waits_for_key():
            self._fault(event, "feature", "a mapping or list as a key; keys are plain text")
            return False
        value: dict[str, Any] | list[Any] = {} if isinstance(event, MappingStartEvent) else []
        self._stack.append(_Open(self._add(event, value), value))
        return True

    def _waits_for_key(self) -> bool:
        return bool(self._stack) and (
            isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None
        )

    def _scalar(self, event: ScalarEvent) -> None:
        if self._waits_for_key():
            self._key(event)
        else:
            plain = event.implicit[0] and event.style is None
            self._add(event, _typed(event.value) if plain else event.value)

    def _key(self, event: ScalarEvent) -> None:
        top = self._stack[-1]
        top.key = key = event.value
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if key in top.seen:
            what = f'"{key}" is here a second time; the first is in line {top.seen[key]}'
            self._fault(event, "duplicate", what)
        top.seen.setdefault(key, line)
        self._tree.keys.setdefault((*top.path, key), (line, column))

    def _add(self, event: Event, value: object) -> Path:
        """Put a value where it belongs: the first one of a duplicate key stays."""
        where = (event.start_mark.line + 1, event.start_mark.column + 1)
        if not self._stack:
            self._tree.data = value
            self._tree.values[()] = where
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            path: Path = (*top.path, len(top.value))
            top.value.append(value)
        else:
            key, top.key = top.key or "", None
            path = (*top.path, key)
            top.value.setdefault(key, value)
        self._tree.values.setdefault(path, where)
        return path


def _typed(text: str) -> str | int | float | bool | None:
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
