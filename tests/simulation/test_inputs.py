"""What is read, and what is said of what cannot be read."""

import contextlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.model import Location
from controlplane.errors import InvalidInputError
from controlplane.simulation.inputs import (
    MAX_LINE,
    Op,
    Remarks,
    TraceEvent,
    bounded_lines,
    read_client_rtts,
    read_region_rtts,
    read_trace,
)
from tests.simulation.build import join, leave, line

KNOWN = {"a", "b"}
GOOD = {"t": 1, "op": "join", "room": "r", "participant": "p", "client": "c", "location": None}


def trace(*lines: str, remarks: Remarks | None = None) -> list[TraceEvent]:
    return list(read_trace(lines, "trace.jsonl", remarks or Remarks()))


def refused(*lines: str) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        trace(*lines)
    assert caught.value.code == "simulation-input-invalid"
    assert caught.value.hint
    return caught.value


def test_a_trace_is_read_as_it_is_written() -> None:
    events = [join(0.5, "r", "ana", "paris"), leave(7.0, "r", "ana")]
    assert trace(*map(line, events)) == events


def test_a_location_may_have_a_radius_or_be_missing() -> None:
    located = {**GOOD, "location": {"lat": 1.5, "lon": -2, "radius_km": 50}}
    missing = {key: value for key, value in GOOD.items() if key != "location"}
    first, second = trace(json.dumps(located), json.dumps(missing))
    assert first.location == Location(1.5, -2.0, 50.0)
    assert second.location is None


def test_blank_lines_count_for_nothing_but_for_line_numbers() -> None:
    assert "trace.jsonl:3:" in refused("\n", "  \n", "{}").detail


def test_unknown_keys_are_ignored_and_said_once() -> None:
    remarks = Remarks()
    odd = json.dumps({**GOOD, "role": "viewer"})
    assert len(trace(odd, odd, remarks=remarks)) == 2
    (sentence,) = remarks.sentences()
    assert "'role'" in sentence
    assert "2 times" in sentence
    assert "line 1" in sentence


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"t": None}, "t is missing"),
        ({"t": "1"}, "t is '1'"),
        ({"t": True}, "t is 'True'"),
        ({"t": float("nan")}, "t is 'nan'"),
        ({"t": 10**400}, "t is"),
        ({"op": "jion"}, "op is 'jion'"),
        ({"room": ""}, "room is"),
        ({"room": 7}, "room is '7'"),
        ({"participant": "x" * 201}, "participant is"),
        ({"client": None}, "client is missing"),
        ({"location": [1, 2]}, "location is"),
        ({"location": {"lat": 91, "lon": 0}}, "lat is '91'"),
        ({"location": {"lat": 0}}, "lon is missing"),
        ({"location": {"lat": 0, "lon": 0, "radius": 5}}, "location is"),
        ({"location": {"lat": 0, "lon": 0, "radius_km": -1}}, "radius_km is '-1'"),
    ],
)
def test_a_faulty_value_is_named(change: dict[str, object], what: str) -> None:
    fault = refused(json.dumps(GOOD), json.dumps({**GOOD, **change}))
    assert fault.detail.startswith("trace.jsonl:2: ")
    assert what in fault.detail


@pytest.mark.parametrize("text", ["{", "[1]", "nonsense", "1", "[" * 5000, '{"t":1}}'])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    assert "trace.jsonl:1: not" in refused(text).detail


def test_time_never_goes_back() -> None:
    fault = refused(line(join(5, "r", "a", "paris")), line(join(4.5, "r", "b", "paris")))
    assert "trace.jsonl:2: t is 4.5, before the 5 above" in fault.detail
    assert "sort" in fault.hint


@given(st.text(max_size=300))
def test_whatever_a_line_holds_it_is_an_event_or_a_coded_error(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        assert all(event.op in Op for event in trace(text))


def test_round_trips_are_read_by_column_name() -> None:
    remarks = Remarks()
    rows = ["\ufeffrtt_ms,note,region,client\n", "7.5,x,a,ana\n", "\n", '9,"y, z",b,ana\n']
    found = read_client_rtts(rows, "clients.csv", KNOWN, remarks)
    assert found == {"ana": {"a": 7.5, "b": 9.0}}
    assert "'note' is not read" in remarks.sentences()[0]


def test_regions_that_are_not_in_the_topology_are_left_out_and_said() -> None:
    remarks = Remarks()
    rows = ["src,dst,rtt_ms\n", "a,b,5\n", "a,mars,5\n", "mars,b,5\n"]
    assert read_region_rtts(rows, "regions.csv", KNOWN, remarks) == {("a", "b"): 5.0}
    (sentence,) = remarks.sentences()
    assert "mars" in sentence
    assert "2 times" in sentence


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([], "regions.csv:1: empty"),
        (["src,rtt_ms\n"], "regions.csv:1: the header has no column dst"),
        (["src,dst,rtt_ms\n", "a,b\n"], "regions.csv:2: only 2 cells"),
        (["src,dst,rtt_ms\n", "a,b,\n"], "regions.csv:2: '' is no round trip"),
        (["src,dst,rtt_ms\n", "a,b,-1\n"], "regions.csv:2: '-1' is no round trip"),
        (["src,dst,rtt_ms\n", "a,b,inf\n"], "regions.csv:2: 'inf' is no round trip"),
        (["src,dst,rtt_ms\n", "a,b,nan\n"], "regions.csv:2: 'nan' is no round trip"),
        (["src,dst,rtt_ms\n", "a,b,1\n", "a,b,2\n"], "regions.csv:3: a to b is here a second time"),
        (["src,dst,rtt_ms\n", ",b,1\n"], "regions.csv:2: a name of 0 characters"),
        (["src,dst,rtt_ms\n", 'a,"b,1\n'], "regions.csv:2: not CSV"),
    ],
)
def test_faulty_tables_are_refused_with_the_line(rows: list[str], what: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_region_rtts(rows, "regions.csv", KNOWN, Remarks())
    assert caught.value.detail.startswith(what)
    assert caught.value.hint


def test_long_lines_and_other_encodings_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="f:2: longer than"):
        list(bounded_lines(io.StringIO("good\n" + "x" * (MAX_LINE + 1)), "f"))
    with pytest.raises(InvalidInputError, match="f:1: not UTF-8"):
        list(bounded_lines(io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"), "f"))
