import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from controlplane.cli import children
from controlplane.cli.children import Child, end_children, readable, start_child
from tests.fakes.waiting import eventually


def script(tmp_path: Path, name: str, body: str) -> dict[str, str]:
    """Write a module that a child can run; return the environment that finds it."""
    (tmp_path / f"{name}.py").write_text(body)
    return {"PYTHONPATH": str(tmp_path)}


def gone(pid: int) -> str | None:
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
        return None
    return f"process {pid} still runs"


async def follow(child: Child) -> list[tuple[str, str, str]]:
    heard: list[tuple[str, str, str]] = []
    await child.follow(lambda *line: heard.append(line))
    return heard


def test_a_json_log_line_becomes_readable_and_keeps_its_level() -> None:
    line = json.dumps({"event": "node ready", "level": "info", "timestamp": "x", "node": "n1"})
    assert readable(line) == ("info: node ready node=n1", "info")
    line = json.dumps({"event": "bind failed", "level": "error", "exception": "Traceback…"})
    assert readable(line) == ("error: bind failed\nTraceback…", "error")


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "{broken", "[1]", "{}x"])
def test_anything_else_is_passed_on_as_an_error(line: str) -> None:
    assert readable(line) == (line, "error")


async def test_a_childs_lines_are_heard_and_its_end_is_worded(tmp_path: Path) -> None:
    body = "import sys; print('one', file=sys.stderr); print('two', end='', file=sys.stderr); sys.exit(3)"
    child = await start_child("kid", "talker", [], script(tmp_path, "talker", body))
    assert await follow(child) == [("kid", "one", "error"), ("kid", "two", "error")]
    assert list(child.tail) == ["one", "two"]
    assert not child.running
    assert child.death() == "exited with 3"


async def test_an_endless_line_is_cut_and_the_tail_is_bounded(tmp_path: Path) -> None:
    body = "import sys\nfor n in range(100): print(n, file=sys.stderr)\nsys.stderr.write('x' * 1_000_000)"
    child = await start_child("kid", "flood", [], script(tmp_path, "flood", body))
    heard = await follow(child)
    assert len(heard) == 101
    assert len(heard[-1][1]) == children.LINE_BYTES
    assert len(child.tail) == children.TAIL_LINES


async def test_children_end_by_sigterm_and_the_stubborn_by_sigkill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "TERM_GRACE_S", 0.3)
    env = script(tmp_path, "kind", "import sys, time; print('up', file=sys.stderr); time.sleep(60)")
    deaf = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    script(tmp_path, "deaf", deaf + (tmp_path / "kind.py").read_text())
    kids = [await start_child("kind", "kind", [], env), await start_child("deaf", "deaf", [], env)]
    async with asyncio.TaskGroup() as group:
        for kid in kids:
            group.create_task(follow(kid))
        await eventually(lambda: None if all(kid.tail for kid in kids) else "a child is not up")
        assert await end_children(kids) == ["deaf"]
    assert [kid.death() for kid in kids] == ["was ended by SIGTERM", "was ended by SIGKILL"]


async def test_killing_the_supervisor_kills_its_children(tmp_path: Path) -> None:
    env = script(tmp_path, "sleeper", "import time; time.sleep(60)")
    parent = (
        "import asyncio, sys\n"
        "from controlplane.cli.children import start_child\n"
        "async def main():\n"
        "    child = await start_child('kid', 'sleeper', [])\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        parent,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ, **env),
    )
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    assert gone(pid) is not None
    supervisor.send_signal(signal.SIGKILL)
    await supervisor.wait()
    await eventually(lambda: gone(pid))
