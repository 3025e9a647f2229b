"""`thalweg simulate` as an operator runs it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.build import CITIES, calls, join, leave, write

HERE = Path(__file__).parents[2]
FEWER = [id_ for id_ in sorted(CITIES) if id_ != "singapore"]

KEYS = {
    "t",
    "op",
    "room",
    "participant",
    "region",
    "node",
    "probed",
    "moves",
    "links",
    "estimate_ms",
}


def thalweg(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'proto'}"}
    return subprocess.run(
        [sys.executable, "-m", "controlplane", "simulate", "--topology", "topology.yaml",
         "--trace", "trace.jsonl", "--client-rtt", "clients.csv", *args],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def answered(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_line_comes_out_for_every_line_that_goes_in(tmp_path: Path) -> None:
    events = [*calls(4, 4), leave(900, "room-0", "ghost")]
    write(tmp_path, events)
    done = thalweg(tmp_path, "--region-rtt", "regions.csv", "--out", "out.jsonl", "-o", "json")
    summary = answered(done)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(line["t"], line["op"], line["room"], line["participant"]) for line in lines] == [
        (event.t, event.op, event.room, event.participant) for event in events
    ]
    for line in lines:
        assert set(line) == KEYS
        assert (line["region"] is None) == (line["op"] == "leave")
    assert (summary["joins"], summary["rooms"], summary["unknown_leaves"]) == (16, 4, 1)
    ways = summary["baselines"]
    assert ways["rooms"] == 4
    assert ways["optimum_of_delay"]["mean_ms"] <= ways["placement"]["mean_ms"]
    assert set(ways) > {
        "placement",
        "near_first_joiner",
        "best_single",
        "nearest_cascade",
        "optimum",
    }


def test_people_get_a_table(tmp_path: Path) -> None:
    write(tmp_path, calls(3, 3))
    done = thalweg(tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        "9 joins",
        "placement",
        "full-knowledge optimum",
        "probes a join",
        "EDGES >100 ms",
    ):
        assert words in done.stdout
    assert done.stderr == ""


def test_two_topologies_are_compared_figure_by_figure(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(tmp_path, calls(6, 4), FEWER)
    write(other, [], sorted(CITIES))
    asked = ("--region-rtt", "regions.csv", "--compare", "other/topology.yaml")
    found = answered(thalweg(tmp_path, *asked, "-o", "json"))
    before, after = found["before"]["placement"], found["after"]["placement"]
    assert found["difference"]["mean_ms"] == pytest.approx(
        after["mean_ms"] - before["mean_ms"], abs=1e-3
    )
    assert found["difference"]["over_150"] == pytest.approx(
        after["over_150"] - before["over_150"], abs=1e-3
    )
    table = thalweg(tmp_path, *asked)
    assert "topology.yaml → other/topology.yaml" in table.stdout
    assert "▼" in table.stdout or "▲" in table.stdout


def test_oddities_are_said_and_do_not_stop_it(tmp_path: Path) -> None:
    write(tmp_path, calls(2, 3), FEWER)
    done = thalweg(tmp_path, "-o", "json")
    answered(done)
    assert "region singapore is not in the topology" in done.stderr


def test_a_region_that_nobody_measured_is_named(tmp_path: Path) -> None:
    write(tmp_path, calls(2, 3))
    rows = (tmp_path / "clients.csv").read_text().splitlines()
    (tmp_path / "clients.csv").write_text("\n".join(row for row in rows if "sydney" not in row))
    assert "no client has a round trip to sydney" in thalweg(tmp_path).stderr


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("trace.jsonl", '{"t":0}\n', "trace.jsonl:1: op is missing"),
        ("clients.csv", "client,rtt_ms\n", "clients.csv:1: the header has no column region"),
        ("topology.yaml", "version: 1\nregoins: {}\n", 'unknown key "regoins"'),
    ],
)
def test_a_faulty_file_ends_it_with_the_line(
    tmp_path: Path, file: str, text: str, said: str
) -> None:
    write(tmp_path, calls(1, 2))
    (tmp_path / file).write_text(text)
    done = thalweg(tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path, calls(1, 2))
    before = (tmp_path / "trace.jsonl").read_text()
    done = thalweg(tmp_path, "--out", "trace.jsonl")
    assert done.returncode == 1
    assert "is an input" in done.stderr
    assert (tmp_path / "trace.jsonl").read_text() == before


def test_a_topology_is_not_compared_with_itself(tmp_path: Path) -> None:
    write(tmp_path, calls(1, 2))
    assert "the topology itself" in thalweg(tmp_path, "--compare", "./topology.yaml").stderr


def test_a_folder_that_is_not_there_is_said_before_the_work(tmp_path: Path) -> None:
    write(tmp_path, calls(1, 2))
    assert "there is no folder" in thalweg(tmp_path, "--out", "nowhere/out.jsonl").stderr


def test_a_trace_without_calls_has_nothing_to_score(tmp_path: Path) -> None:
    write(tmp_path, [join(0, "r", "ana", "paris")])
    done = thalweg(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing to score" in done.stdout
    assert answered(thalweg(tmp_path, "-o", "json"))["placement"] is None


def test_the_picture_is_drawn_or_what_is_missing_is_said(tmp_path: Path) -> None:
    write(tmp_path, calls(3, 3))
    done = thalweg(tmp_path, "--plot", "picture.png")
    if importlib.util.find_spec("matplotlib") is None:
        assert done.returncode == 1
        assert "pip install 'thalweg[plot]'" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
