"""Real processes for the end-to-end tests: `thalweg up` and `thalweg demo`, as a user starts them."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
THALWEG = (sys.executable, "-m", "controlplane")
START_WITHIN_S = 30
STOP_WITHIN_S = 10
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("THALWEG_")}
"""Without what a developer may have set for a system of their own."""


class Up:
    """A running `thalweg up --json`, as a context manager."""

    def __init__(self, *options: str) -> None:
        self.command = [*THALWEG, "up", "--json", *options]
        self.facts: Mapping[str, Any] = {}
        self.process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=ENVIRONMENT,
        )
        try:
            self.facts = json.loads(self._first_line())
        except BaseException:
            self.stop(signal.SIGTERM)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGTERM)

    @property
    def pids(self) -> Mapping[str, int]:
        """The children's process ids by name."""
        pids: Mapping[str, int] = self.facts["processes"]
        return pids

    def stop(self, number: signal.Signals) -> str:
        """Send a signal if it still runs, wait for the end, return what it wrote to stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        except ValueError:  # stopped before: its pipes are closed
            return ""
        return errors

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the control plane's API; return (status, JSON or None)."""
        return http(method, self.facts["http_url"] + path, body, self.facts["api_key"])

    def _first_line(self) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_WITHIN_S)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            errors = self.stop(signal.SIGTERM)
            raise AssertionError(f"`thalweg up` did not get ready: {errors}")
        return line


def http(
    method: str, url: str, body: Mapping[str, Any] | None = None, api_key: str = ""
) -> tuple[int, Any]:
    """Make a request as curl would; return (status, JSON or None)."""
    request = urllib.request.Request(  # noqa: S310 - loopback only
        url,
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {api_key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            text, status = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        with error:
            text, status = error.read(), error.code
    return status, json.loads(text) if text else None


def thalweg(*arguments: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*THALWEG, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=ROOT,
        env=ENVIRONMENT,
        check=False,
    )


def still_running(pids: Sequence[int]) -> str | None:
    """Say which of the processes run; None when all are gone (a zombie is gone: it only waits to be counted)."""
    running = []
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        try:
            state = stat.read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            continue
        if state != "Z":
            running.append(pid)
    return f"still running: {running}" if running else None


def read_errors_until(up: Up, word: str, within_s: float = 10) -> str:
    """Read stderr of a running system until a line has `word`; return that line."""
    assert up.process.stderr is not None
    until = time.monotonic() + within_s
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([up.process.stderr], [], [], left)
        line = up.process.stderr.readline() if ready else ""
        if word in line:
            return line
    raise AssertionError(f"no line with {word!r} within {within_s:g} s")
