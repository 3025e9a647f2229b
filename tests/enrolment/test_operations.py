"""What docs/operations.md says about certificates, run as it is written: only names and ports are this machine's."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from controlplane.adapters.tls_files import read
from controlplane.cli.local_setup import free_port
from relay.transport.tls import NodeIdentity, TlsFiles
from tests.api.harness import DEMO, KEY

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
SECTION = TEXT.partition("\n## Certificates\n")[2].partition("\n## ")[0]

PORTS = ("8080", "8443", "8445", "8081", "3478", "8444", "3479")

pytestmark = pytest.mark.e2e


def blocks(heading: str) -> list[str]:
    """Return the shell blocks below a heading of the section."""
    text = SECTION.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    found: list[str] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert found, f"no commands below {heading!r}"
    return found


@dataclass
class Machine:
    """A directory, and the ports that stand for those of the text."""

    folder: Path
    ports: dict[str, int]

    def here(self, text: str) -> str:
        """Return commands with this machine's names and ports."""
        text = text.replace("control.example.net", "localhost").replace("0.0.0.0:", "127.0.0.1:")
        for port, mine in self.ports.items():
            text = re.sub(rf":{port}\b", f":{mine}", text)
        return text

    @property
    def environment(self) -> dict[str, str]:
        scripts = Path(sys.executable).parent
        return {
            **os.environ,
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "THALWEG_URL": f"http://127.0.0.1:{self.ports['8080']}",
            "THALWEG_API_KEY": KEY,
        }

    def run(self, text: str) -> None:
        """Run a block to its end; it has to succeed."""
        done = subprocess.run(
            ["bash", "-euc", self.here(text)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def running(self, text: str, log: str) -> Iterator[None]:
        """Run a block for the time of this one; it has to live until then, and to end when it is asked to."""
        with (self.folder / log).open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-euc", "exec " + self.here(text).strip()],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=out,
            )
            try:
                yield
                assert process.poll() is None, (self.folder / log).read_text()
            finally:
                process.terminate()
                process.wait(20)

    def says(self, log: str, words: str) -> str | None:
        """Return what a process wrote, unless these words are in it."""
        text = (self.folder / log).read_text()
        return None if words in text else text

    def serves(self) -> str | None:
        """Say what is wrong until the node takes people."""
        url = f"http://127.0.0.1:{self.ports['8080']}/v1/nodes/fra1"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - loopback
                found = json.load(answer)["state"]
        except urllib.error.URLError as error:
            found = str(error)
        return None if found == "serving" else f"fra1 is {found}"


def wait(check: Callable[[], str | None], seconds: float = 20) -> None:
    """Look again and again until a check has nothing to say."""
    deadline = time.monotonic() + seconds
    while (why := check()) is not None:
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    taken: set[int] = set()
    (tmp_path / "regions.yaml").write_text(DEMO)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    (tmp_path / "api-keys").write_text(f"tests:{digest}\n")
    return Machine(tmp_path, {port: free_port(taken) for port in PORTS})


def test_an_authority_a_token_and_a_node(machine: Machine) -> None:
    create, serve, token, relay = blocks("The built-in authority")
    [renew] = blocks("Replace certificates")
    folder = machine.folder
    machine.run(create)
    machine.run(blocks("Replace the key that signs participants' tokens")[0])
    with machine.running(serve, "serve.log"):
        wait(lambda: machine.says("serve.log", "ready"))
        machine.run(token)
        with machine.running(relay, "relay.log"):
            wait(machine.serves)
            machine.run(renew)
            wait(lambda: machine.says("serve.log", "keys were read anew"))
        # A later start needs no token.
        (folder / "join-token").write_text("")
        with machine.running(relay, "again.log"):
            wait(lambda: machine.says("again.log", "node serves"))
            wait(machine.serves)
    assert "twjoin" not in (folder / "serve.log").read_text() + (folder / "relay.log").read_text()
    names = TlsFiles.load(folder / "tls").check(NodeIdentity("eu-frankfurt", "fra1"))
    assert names.ip_addresses == ("127.0.0.1",)


def test_the_authority_is_replaced(machine: Machine) -> None:
    machine.run(blocks("The built-in authority")[0])
    rotate, finish = blocks("Replace the authority")
    machine.run(rotate)
    assert read(machine.folder / "controlplane").ca.count(b"BEGIN") == 2
    with pytest.raises(AssertionError, match="nodes have certificates by the old authority until"):
        machine.run(finish)


def test_signing_keys_are_replaced(machine: Machine) -> None:
    one, several = blocks("Replace the key that signs participants' tokens")
    machine.run(one)
    machine.run(several)
    kept = machine.folder / "signing.pem"
    assert kept.read_bytes() == (machine.folder / "next.pem").read_bytes()


def test_a_pki_of_ones_own(machine: Machine) -> None:
    machine.run(blocks("Your own PKI")[0])
    names = TlsFiles.load(machine.folder / "fra1").check(NodeIdentity("eu-frankfurt", "fra1"))
    assert names.ip_addresses == ("203.0.113.10",)
    assert read(machine.folder / "controlplane").dns_names == ("localhost",)
