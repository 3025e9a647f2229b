"""`thalweg`, as a real process."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from controlplane.adapters.tokens import Ed25519Signer
from tests.api.harness import DEMO, SERVER
from tests.fakes.waiting import eventually_sync

THALWEG = [sys.executable, "-m", "controlplane"]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    SERVER.write(tmp_path / "tls")
    (tmp_path / "topology.yaml").write_text(DEMO)
    (tmp_path / "keys").write_text(f"app:{sha256(b'sesame').hexdigest()}\n")
    return [
        "serve",
        *("--topology", str(tmp_path / "topology.yaml")),
        *("--http", "127.0.0.1:0"),
        *("--grpc", "127.0.0.1:0"),
        *("--tls-dir", str(tmp_path / "tls")),
        *("--api-key-file", str(tmp_path / "keys")),
    ]


class Process:
    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [*THALWEG, *arguments], stdout=subprocess.PIPE, stderr=stderr, env=os.environ
            )

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=10)
        return self.process.returncode, out.decode()


@pytest.fixture
def serving(arguments: list[str], tmp_path: Path) -> Iterator[Process]:
    process = Process([*arguments, "--declared-rtts"], tmp_path / "log")
    try:
        eventually_sync(
            lambda: None if "ready" in {line["event"] for line in process.lines()} else "not ready",
            timeout=20,
        )
        yield process
    finally:
        process.process.kill()
        process.process.communicate(timeout=10)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_warns_and_ends_cleanly(serving: Process, number: int) -> None:
    ready = next(line for line in serving.lines() if line["event"] == "ready")
    with urllib.request.urlopen(f"http://{ready['http']}/readyz", timeout=5) as answer:
        assert json.load(answer) == {"status": "ready"}
    warnings = [line["event"] for line in serving.lines() if line["level"] == "warning"]
    for shortcut in (
        "IN MEMORY",
        "NO TURN SECRET",
        "NO GEOIP FILE",
        "DECLARED RTTS",
        "NO SIGNING KEY",
    ):
        assert any(shortcut in warning for warning in warnings), shortcut
    assert serving.end(number) == (0, "")
    assert serving.lines()[-1]["event"] == "stopping"


@pytest.mark.e2e
def test_settings_that_cannot_work_are_all_told(arguments: list[str], tmp_path: Path) -> None:
    wrong = [
        *arguments,
        "--declared-rtts",
        "--http",
        "0.0.0.0:0",
        "--geoip",
        str(tmp_path / "keys"),
    ]
    done = subprocess.run(
        [*THALWEG, *wrong], capture_output=True, text=True, check=False, timeout=20
    )
    told = [json.loads(line)["problem"] for line in done.stderr.splitlines()]
    assert (done.returncode, [problem.split(":")[0] for problem in told]) == (
        2,
        ["--geoip", "--declared-rtts"],
    )


@pytest.mark.e2e
@pytest.mark.parametrize("flag", ["--http", "--grpc"])
def test_a_taken_port_is_told(arguments: list[str], flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [*THALWEG, *arguments, flag, address],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    last = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, last["event"]) == (1, "cannot start")
    assert address.split(":")[1] in last["problem"]
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
def test_help_lists_all_commands_without_loading_them() -> None:
    script = (
        "import sys\n"
        "from controlplane.__main__ import main\n"
        "sys.argv = ['thalweg', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'aiohttp', 'aiortc', 'cryptography', 'grpc', 'pydantic', 'ruamel'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr
    for command in ("up", "demo", "serve", "topology"):
        assert f" {command} " in done.stdout


@pytest.mark.e2e
def test_topology_validate(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(DEMO)
    bad.write_text("version: 1\nregions:\n  a: {titel: x}\n")
    command = [*THALWEG, "topology", "validate"]
    done = subprocess.run([*command, good], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (0, f"{good}: good (3 regions, 3 links)\n")
    files = [good, bad, tmp_path / "missing.yaml"]
    done = subprocess.run(
        [*command, *files], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 1
    assert f"{bad}:3:7: TOPO004" in done.stderr
    assert "missing.yaml: cannot be read" in done.stderr


def test_a_key_file_lasts(tmp_path: Path) -> None:
    pem = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", pem],
        check=True,
        capture_output=True,
        timeout=10,
    )
    assert Ed25519Signer.from_file(pem).kid
