"""`thalweg doctor` against a region that is well, and against what usually goes wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.turn.network import ROOT
from tests.turn.region import GRPC, HTTP, KEY, System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("doctor")) as system:
        yield system


def doctor(system: System, *arguments: str, host: str = "control") -> tuple[int, Any]:
    """Run it on a host; return its exit code and its answer."""
    done = subprocess.run(
        system.hosts[host].command(
            "env", f"THALWEG_API_KEY={KEY}", f"SSL_CERT_FILE={system.tls / 'turn' / 'ca.pem'}",
            sys.executable, "-m", "controlplane", "doctor", "-o", "json", *arguments,
        ),
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def by_check(answer: Any) -> dict[tuple[str, str], str]:
    return {(one["check"], one["subject"]): one["verdict"] for one in answer["checks"]}


def test_a_region_that_is_well(system: System) -> None:
    code, answer = doctor(
        system,
        *("--url", system.api, "--turn-secret-file", str(system.secret_file)),
        *("--tls-dir", str(system.tls / "control"), "--grpc", f"{system.hosts['control'].ipv4}:{GRPC}"),
    )  # fmt: skip
    found = by_check(answer)
    bad = {key: verdict for key, verdict in found.items() if verdict != "ok"}
    edge = system.hosts["edge"].ipv4
    tls = f"eu-a {edge}:443 tls"
    assert bad == {("certificate", tls): "warn"}, "the tests' own ends tomorrow"
    assert code == 1
    kinds = {check for check, _ in found}
    assert kinds == {
        "api", "api-key", "clock", "node", "node-http", "region", "media", "grpc", "certificate", "turn", "turn-peers",
    }  # fmt: skip
    assert {subject for check, subject in found if check == "turn"} == {
        f"eu-a {edge}:3478 udp",
        f"eu-a {edge}:3478 tcp",
        tls,
    }


def test_a_wrong_secret_is_found(system: System, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("0" * 64)
    code, answer = doctor(
        system, "--url", system.api, "--turn-secret-file", str(tmp_path / "other")
    )
    turns = [one for one in answer["checks"] if one["check"] == "turn"]
    assert code == 2
    assert {one["verdict"] for one in turns} == {"fail"}
    assert all("401" in one["seen"] and "--turn-secret-file" in one["todo"] for one in turns)


def test_without_secrets_turn_is_only_asked(system: System) -> None:
    _, answer = doctor(system, "--url", system.api)
    turns = {one["verdict"] for one in answer["checks"] if one["check"] == "turn"}
    assert turns == {"warn"}


def test_a_node_looks_at_itself(system: System) -> None:
    node = f"http://{system.hosts['edge'].ipv4}:{HTTP}"
    code, answer = doctor(
        system,
        *("--node", node, "--tls-dir", str(system.tls / "edge")),
        *("--grpc", f"{system.hosts['control'].ipv4}:{GRPC}"),
        host="edge",
    )
    found = {one["check"]: one["verdict"] for one in answer["checks"]}
    assert found.pop("node-coturn", "warn") == "warn", "Debian's has known holes"
    assert set(found.values()) == {"ok"}, answer
    assert code <= 1
    assert set(found) == {"certificate", "node-http", "clock", "node-load", "node-turn", "grpc"}


def test_redis_is_looked_at(system: System, tmp_path: Path) -> None:
    control = system.hosts["control"].ipv4
    system.network.start(
        "control", require("redis-server"), "--bind", control, "--port", "6380", "--save", "",
        "--protected-mode", "no", "--dir", str(tmp_path), "--maxmemory", "64mb",
        "--maxmemory-policy", "allkeys-lru", log=tmp_path / "redis.log",
    )  # fmt: skip

    def found() -> dict[str, str]:
        _, answer = doctor(system, "--url", system.api, "--redis", f"redis://{control}:6380")
        return {
            one["check"]: one["verdict"]
            for one in answer["checks"]
            if one["check"].startswith("redis") or "redis" in one["subject"]
        }

    system.eventually(lambda: len(found()) > 1)
    assert found() == {"redis": "warn", "redis-memory": "fail", "clock": "ok"}
    _, answer = doctor(system, "--url", system.api, "--redis", f"redis://{control}:6381")
    assert ("redis", f"redis://{control}:6381") in by_check(answer)
    assert by_check(answer)["redis", f"redis://{control}:6381"] == "fail"
