"""Rules about the files themselves, which no linter of ours checks."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
"""A file that is longer has two subjects."""
SOURCES = ("controlplane", "relay", "guard", "recorder", "tests", "examples")


def source_files() -> list[Path]:
    return [
        path
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def test_no_source_file_is_longer_than_400_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in source_files()
    }
    assert lengths, "looked in the wrong place"
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_nothing_is_mocked() -> None:
    offenders = []
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            if any(re.match(r"(unittest\.mock|mock|pytest_mock)\b", name) for name in names):
                offenders.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert offenders == []


def test_the_lock_has_hashes_and_names_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert re.findall(r".*(?:://|--(?:extra-)?index-url|--find-links|@ ).*", lock) == []


def test_generated_code_is_what_the_proto_files_give(tmp_path: Path) -> None:
    script = ROOT / "proto" / "generate.sh"
    subprocess.run(["sh", script, sys.executable, tmp_path], check=True, timeout=60)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*.py*")}
    committed = {
        path.relative_to(ROOT / "proto"): path.read_text()
        for path in (ROOT / "proto").rglob("*_pb2*.py*")
        if "__pycache__" not in path.parts
    }
    assert fresh, "nothing was generated"
    stale = [str(name) for name in fresh if committed.get(name) != fresh[name]]
    assert stale == [], "run `make proto`"
    assert set(committed) == set(fresh), "generated code whose .proto is gone"


@pytest.mark.parametrize("name", ["tests/setup.sh", ".ci/run", "proto/generate.sh"])
def test_scripts_parse(name: str) -> None:
    first = (ROOT / name).read_text().splitlines()[0]
    shell = "bash" if "bash" in first else "sh"
    subprocess.run([shell, "-n", ROOT / name], check=True, timeout=10)
