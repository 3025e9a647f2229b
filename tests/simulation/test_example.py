"""examples/simulate: the world that its script makes, and the command that its README tells people to paste."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[2]
EXAMPLE = HERE / "examples" / "simulate"
WORLD = ("now.yaml", "mumbai.yaml", "regions.csv", "clients.csv", "monday.jsonl")
MAX_BYTES = 120_000


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'proto'}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )  # fmt: skip


def pasted() -> list[str]:
    """Return the arguments of the README's `thalweg simulate`."""
    text = (HERE / "examples" / "README.md").read_text()
    (block,) = re.findall(
        r"```sh\ncd examples/simulate\n\S+/thalweg (simulate .*?)```", text, re.DOTALL
    )
    return shlex.split(block.replace("\\\n", " "))


def copied(folder: Path) -> Path:
    for name in WORLD:
        shutil.copy(EXAMPLE / name, folder)
    return folder


def test_the_script_makes_the_same_bytes_again(tmp_path: Path) -> None:
    done = run([sys.executable, str(EXAMPLE / "make.py"), str(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(WORLD)
    for name in WORLD:
        assert (tmp_path / name).read_bytes() == (EXAMPLE / name).read_bytes(), name
    assert sum((tmp_path / name).stat().st_size for name in WORLD) < MAX_BYTES


def test_the_readmes_command_runs_and_says_what_mumbai_would_be_worth(tmp_path: Path) -> None:
    command = pasted()
    if importlib.util.find_spec("matplotlib") is None:
        at = command.index("--plot")
        del command[at : at + 2]
    done = run([sys.executable, "-m", "controlplane", *command, "-o", "json"], copied(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "both topologies know all regions of the files"
    found = json.loads(done.stdout)
    assert (found["before"]["joins"], found["before"]["rooms"]) == (304, 72)
    assert found["before"]["refused"] == found["after"]["refused"] == 0
    assert found["difference"]["mean_ms"] < -5, "a quarter of the people is in India"
    placed = (tmp_path / "placed.jsonl").read_text().splitlines()
    assert len(placed) == len((EXAMPLE / "monday.jsonl").read_text().splitlines())
    if "--plot" in command:
        assert (tmp_path / "mumbai.png").read_bytes().startswith(b"\x89PNG")


def test_the_trace_has_what_a_real_one_would() -> None:
    events = [json.loads(line) for line in (EXAMPLE / "monday.jsonl").read_text().splitlines()]
    joins = [event for event in events if event["op"] == "join"]
    sizes = {
        room: sum(join["room"] == room for join in joins) for room in {one["room"] for one in joins}
    }
    assert (min(sizes.values()), max(sizes.values())) == (2, 8)
    assert len(events) == 2 * len(joins), "everybody leaves"
    assert 0 < sum(join["location"] is None for join in joins) < 0.2 * len(joins)
    assert {"radius_km" in join["location"] for join in joins if join["location"]} == {True, False}
