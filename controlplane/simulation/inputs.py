"""What a simulation reads: round trips as CSV, joins and leaves as JSON lines.

Everything here takes lines and yields values, so that a trace of millions of lines is never in memory as a whole. A
fault names file and line, says what is wrong and what to do. What is not wrong but odd (a column or a key that
nothing reads, a region that the topology does not have) is ignored and said once in `Remarks`.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TextIO

from controlplane.core.mesh import MAX_RTT_MS, Pair
from controlplane.core.model import Location, ParticipantId, RegionId, RoomId
from controlplane.errors import InvalidInputError

MAX_LINE = 8192
"""Characters of a line; the longest honest one has some 400."""

MAX_NAME = 200
"""Characters of a room, a participant, a client or a region."""

MAX_T = 1e12
"""Seconds; wall clocks in milliseconds fit too."""

ClientRtts = Mapping[str, Mapping[RegionId, float]]
"""Client → region → round trip in milliseconds: the truth that a virtual client measures."""


class Op(StrEnum):
    """What happens in a line of a trace."""

    JOIN = "join"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One line of a trace."""

    t: float
    """Seconds since whenever the trace counts from; never smaller than in the line before."""
    op: Op
    room: RoomId
    participant: ParticipantId
    client: str = ""
    """Which rows of the client round trips are this one's, and by what its calls are learned. Empty when it leaves."""
    location: Location | None = None
    """What an address database would have answered."""


@dataclass(slots=True)
class Remarks:
    """What was ignored, counted."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, where: str = "") -> None:
        """Count one occurrence; the place of the first is kept."""
        self.counts[what] += 1
        self.first.setdefault(what, where)

    def sentences(self) -> tuple[str, ...]:
        """Return a sentence per kind, the most frequent first."""
        return tuple(
            f"{what}: {count} times"
            + (f", first at {self.first[what]}" if self.first[what] else "")
            for what, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        )


def bounded_lines(stream: TextIO, file: str) -> Iterator[str]:
    """Yield the lines of an open text file. Raises InvalidInputError for one that is too long or not UTF-8."""
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(MAX_LINE + 1)
        except UnicodeDecodeError as error:
            raise _fault(file, number, "not UTF-8 text", "save the file as UTF-8") from error
        if not line:
            return
        if len(line) > MAX_LINE:
            raise _fault(file, number, f"longer than {MAX_LINE} characters", "one record per line")
        yield line


def read_region_rtts(
    lines: Iterable[str], file: str, known: Container[str], remarks: Remarks
) -> dict[Pair, float]:
    """Return the round trips between regions of `src,dst,rtt_ms`, each direction by itself."""
    return {
        (RegionId(a), RegionId(b)): rtt
        for a, b, rtt in _pairs(lines, file, ("src", "dst"), (known, known), remarks)
    }


def read_client_rtts(
    lines: Iterable[str], file: str, known: Container[str], remarks: Remarks
) -> dict[str, dict[RegionId, float]]:
    """Return the true round trips of `client,region,rtt_ms`. A pair that is not there never answers a probe."""
    truth: dict[str, dict[RegionId, float]] = {}
    for client, region, rtt in _pairs(lines, file, ("client", "region"), (None, known), remarks):
        truth.setdefault(client, {})[RegionId(region)] = rtt
    return truth


def read_trace(lines: Iterable[str], file: str, remarks: Remarks) -> Iterator[TraceEvent]:
    """Yield the events of a trace, one JSON object a line. Blank lines count for nothing."""
    before = -math.inf
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        event = _Record(_object(line, file, number), file, number).event(remarks)
        if event.t < before:
            raise _fault(
                file,
                number,
                f"t is {event.t:g}, before the {before:g} above",
                "sort the trace by t",
            )
        before = event.t
        yield event


# --- CSV ----------------------------------------------------------------------------------------


def _pairs(
    lines: Iterable[str],
    file: str,
    names: tuple[str, str],
    known: tuple[Container[str] | None, Container[str] | None],
    remarks: Remarks,
) -> Iterator[tuple[str, str, float]]:
    """Yield (first, second, milliseconds); rows with a region that is not known are counted, not yielded."""
    seen: set[tuple[str, str]] = set()
    for number, a, b, text in _cells(lines, file, names, remarks):
        rtt = _rtt(text, file, number)
        if (a, b) in seen:
            raise _fault(file, number, f"{a} to {b} is here a second time", "keep one of the rows")
        seen.add((a, b))
        strange = [
            name
            for name, among in zip((a, b), known, strict=True)
            if among is not None and name not in among
        ]
        for region in strange:
            remarks.note(f"{file}: region {region} is not in the topology", f"line {number}")
        if not strange:
            yield a, b, rtt


def _cells(
    lines: Iterable[str], file: str, names: tuple[str, str], remarks: Remarks
) -> Iterator[tuple[int, str, str, str]]:
    """Yield line number, first, second and round trip of every row."""
    reader = csv.reader(iter(lines), strict=True)
    columns: list[int] | None = None
    try:
        for row in reader:
            number = reader.line_num
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = _header(row, (*names, "rtt_ms"), file, number, remarks)
                continue
            if len(row) <= max(columns):
                raise _fault(
                    file, number, f"only {len(row)} cells", "every row has what the header has"
                )
            a, b, text = (row[column].strip() for column in columns)
            if not (0 < len(a) <= MAX_NAME and 0 < len(b) <= MAX_NAME):
                raise _fault(
                    file, number, f"a name of {min(len(a), len(b))} characters", f"1 to {MAX_NAME}"
                )
            yield number, a, b, text
    except csv.Error as error:
        raise _fault(
            file, reader.line_num, f"not CSV: {error}", "quote cells that contain commas"
        ) from error
    if columns is None:
        raise _fault(file, 1, "empty", f"begin with the line {','.join(names)},rtt_ms")


def _header(
    row: list[str], wanted: tuple[str, ...], file: str, number: int, remarks: Remarks
) -> list[int]:
    found = [cell.strip().removeprefix("\ufeff") for cell in row]
    missing = [name for name in wanted if name not in found]
    if missing:
        what = f"the header has no column {' and no '.join(missing)}"
        raise _fault(file, number, what, f"begin with the line {','.join(wanted)}")
    for name in found:
        if name not in wanted:
            remarks.note(f"{file}: column {name!r} is not read", f"line {number}")
    return [found.index(name) for name in wanted]


def _rtt(text: str, file: str, number: int) -> float:
    try:
        rtt = float(text)
    except ValueError:
        rtt = math.nan
    if not 0 <= rtt <= MAX_RTT_MS:
        what = f"{text[:40]!r} is no round trip in milliseconds"
        hint = f"0 to {MAX_RTT_MS:.0f}; leave the row out when it was never measured"
        raise _fault(file, number, what, hint)
    return rtt


# --- JSON lines ---------------------------------------------------------------------------------

_KEYS = frozenset({"t", "op", "room", "participant", "client", "location"})
_LOCATION_KEYS = frozenset({"lat", "lon", "radius_km"})
_EXAMPLE = '{"t":0,"op":"join","room":"r","participant":"ana","client":"c","location":{"lat":50.1,"lon":8.7}}'


def _object(line: str, file: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _fault(file, number, f"not JSON: {error}", f"a line looks like {_EXAMPLE}") from error
    if not isinstance(found, dict):
        raise _fault(file, number, "not a JSON object", f"a line looks like {_EXAMPLE}")
    return found


@dataclass(frozen=True, slots=True)
class _Record:
    """One line of a trace on its way to an event."""

    found: dict[str, Any]
    file: str
    number: int

    def event(self, remarks: Remarks) -> TraceEvent:
        for key in self.found.keys() - _KEYS:
            remarks.note(f"{self.file}: key {key[:40]!r} is not read", f"line {self.number}")
        op = self.found.get("op")
        if op not in ("join", "leave"):
            raise self._fault(f"op is {_shown(op)}", "it is join or leave")
        joins = op == "join"
        return TraceEvent(
            self._number(self.found, "t", -MAX_T, MAX_T),
            Op.JOIN if joins else Op.LEAVE,
            RoomId(self._name("room")),
            ParticipantId(self._name("participant")),
            self._name("client") if joins else "",
            self._location() if joins else None,
        )

    def _name(self, key: str) -> str:
        value = self.found.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
            raise self._fault(
                f"{key} is {_shown(value)}", f"it is text of 1 to {MAX_NAME} characters"
            )
        return value

    def _location(self) -> Location | None:
        value = self.found.get("location")
        if value is None:
            return None
        if not isinstance(value, dict) or value.keys() - _LOCATION_KEYS:
            hint = 'it is null or {"lat":…,"lon":…,"radius_km":…}'
            raise self._fault(f"location is {_shown(value)}", hint)
        radius = value.get("radius_km")
        return Location(
            self._number(value, "lat", -90, 90),
            self._number(value, "lon", -180, 180),
            None if radius is None else self._number(value, "radius_km", 0, 21_000),
        )

    def _number(self, owner: Mapping[str, Any], key: str, low: float, high: float) -> float:
        value = owner.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        between = f"a number from {low:g} to {high:g}"
        raise self._fault(f"{key} is {_shown(value)}", f"it is {between}")

    def _fault(self, what: str, hint: str) -> InvalidInputError:
        return _fault(self.file, self.number, what, hint)


def _shown(value: object) -> str:
    return "missing" if value is None else f"{str(value)[:40]!r}"


def _fault(file: str, number: int, what: str, hint: str) -> InvalidInputError:
    extra = {"errors": [{"loc": [file, number], "msg": what}]}
    return InvalidInputError(
        "simulation-input-invalid", f"{file}:{number}: {what}", hint, extra=extra
    )
