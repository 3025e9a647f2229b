"""Fuzz every parser behind an open port, guided by coverage (atheris).

    python -m tests.bench fuzz [--seconds N]

N is for each parser, 10 if left out. Fails with the input when a parser lets out an error that it does not document.
The suite does less of the same in tests/fuzz.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 10
SPARE_S = 60
"""For imports, which instrumenting makes slow."""

_COVERAGE = re.compile(r"cov: (\d+)")


def report(seconds: int = SECONDS) -> str:
    """Return a line for each target. Raises RuntimeError for an input that a parser fails on."""
    try:
        import atheris  # noqa: F401, PLC0415 - only asked for
    except ImportError:
        return "fuzz: skipped, atheris has no wheel for this Python"
    from tests.fuzz.test_parsers import TARGETS  # noqa: PLC0415 - it takes a second

    lines = [f"fuzz, {seconds} s for each parser:"]
    for name in TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(f"  {name:<18} {_run(name, seconds, Path(folder))}")
    return "\n".join(lines)


def _run(name: str, seconds: int, folder: Path) -> str:
    command = [sys.executable, "-m", "tests.bench.fuzz_one", name, str(seconds), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + SPARE_S, cwd=ROOT, check=False
    )
    if done.returncode:
        failed = [path.read_bytes().hex() for path in folder.glob("failed-*")]
        raise RuntimeError(f"{name} fails on {failed}:\n{done.stdout}{done.stderr[-4000:]}")
    runs = re.search(r"Done (\d+)", done.stderr)
    branches = _COVERAGE.findall(done.stderr)
    return f"{int(runs[1]) if runs else 0:>9,} inputs, {branches[-1] if branches else '?'} branches"
