"""What `thalweg doctor` thinks, and how it says so."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from controlplane.adapters.ca import CertificateAuthority
from controlplane.cli.doctor import print_checks
from controlplane.cli.doctor_checks import (
    CertificateFacts,
    Check,
    TurnSeen,
    Verdict,
    duration_text,
    judge_certificate,
    judge_clock,
    judge_geoip,
    judge_listener_certificate,
    judge_node,
    judge_redis,
    judge_regions,
    judge_samples,
    judge_turn,
    ok,
    read_samples,
    warn,
    worst,
)
from controlplane.cli.doctor_probes import look_at_geoip, look_at_tls_files, look_at_topology
from tests.cli.asking import thalweg

NOW = 1_800_000_000.0
DAY = 86_400


def verdicts(checks: list[Check]) -> dict[str, str]:
    for check in checks:
        assert (check.verdict is Verdict.OK) == (not check.todo), "what is wrong has a remedy"
    return {check.name: check.verdict.value for check in checks}


@pytest.mark.parametrize(
    ("skew_s", "took_s", "verdict"),
    [
        (0.4, 0.01, "ok"), (-1.5, 0.5, "ok"), (3, 0.01, "warn"), (-4, 0.1, "warn"), (7, 0.1, "fail"), (7, 5, "ok"),
        (-99, 1, "fail"),
    ],
)  # fmt: skip
def test_clocks(skew_s: float, took_s: float, verdict: str) -> None:
    assert judge_clock("n", skew_s, took_s).verdict == verdict


FACTS = CertificateFacts(
    NOW - DAY, NOW + 9 * DAY, ("a.test",), ("spiffe://thalweg/controlplane/a",), trusted=True
)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "ok"),
        ({"not_after": NOW + DAY}, "ok"),
        ({"not_before": NOW - 90 * DAY}, "warn"),
        ({"not_after": NOW - 1}, "fail"),
        ({"not_before": NOW + 1}, "fail"),
        ({"names": ()}, "warn"),
        ({"uris": ()}, "fail"),
        ({"uris": ("https://a.test",)}, "fail"),
        ({"uris": FACTS.uris * 2}, "fail"),
        ({"trusted": False}, "fail"),
    ],
)
def test_certificates(changes: dict[str, object], verdict: str) -> None:
    facts = {name: getattr(FACTS, name) for name in FACTS.__slots__} | changes
    check = judge_certificate("tls", CertificateFacts(**facts), NOW)
    assert check.verdict == verdict
    assert bool(check.todo) == (verdict != "ok")


def test_public_certificates_and_geoip() -> None:
    assert judge_listener_certificate("t", NOW + 60 * DAY, NOW).verdict is Verdict.OK
    assert judge_listener_certificate("t", NOW + 5 * DAY, NOW).verdict is Verdict.WARN
    assert judge_geoip("g", 10 * DAY).verdict is Verdict.OK
    assert judge_geoip("g", 100 * DAY).verdict is Verdict.WARN


INFO = {
    "redis_version": "7.0.15",
    "connected_slaves": 2,
    "maxmemory_policy": "noeviction",
    "used_memory": 3 << 20,
    "maxmemory": 1 << 30,
}
SAFE = {"min-replicas-to-write": "1"}


def test_redis_as_it_should_be() -> None:
    assert verdicts(judge_redis("r", INFO, SAFE)) == {
        "redis": "ok",
        "redis-memory": "ok",
        "redis-durability": "ok",
    }
    assert "redis-durability" not in verdicts(judge_redis("r", INFO, {})), "CONFIG is forbidden"


@pytest.mark.parametrize(
    ("info", "config", "name", "verdict"),
    [
        ({"redis_version": "5.0.3"}, SAFE, "redis", "fail"),
        ({"connected_slaves": 0}, SAFE, "redis", "warn"),
        ({"maxmemory_policy": "allkeys-lru"}, SAFE, "redis-memory", "fail"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, SAFE, "redis-memory", "ok"),
        ({}, {"min-replicas-to-write": "0"}, "redis-durability", "warn"),
    ],
)
def test_redis_as_it_should_not_be(
    info: dict[str, object], config: dict[str, str], name: str, verdict: str
) -> None:
    assert verdicts(judge_redis("r", INFO | info, config))[name] == verdict


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (TurnSeen(problem="no answer"), {"turn": "fail"}),
        (TurnSeen(realm="eu-a"), {"turn": "warn"}),
        (TurnSeen(allocated=False, error=401), {"turn": "fail"}),
        (TurnSeen(allocated=False, error=486), {"turn": "fail"}),
        (TurnSeen(allocated=True), {"turn": "ok", "turn-peers": "ok"}),
        (TurnSeen(allocated=True, open_peers=("169.254.169.254",)), {"turn": "ok", "turn-peers": "fail"}),
    ],
)  # fmt: skip
def test_turn(seen: TurnSeen, expected: dict[str, str]) -> None:
    assert verdicts(judge_turn("eu-a udp", seen)) == expected


def test_nodes_and_regions() -> None:
    nodes = [
        {"id": "a", "region": "eu", "state": "serving", "participants": 1, "capacity": 2, "why": ""},
        {"id": "b", "region": "us", "state": "lost", "participants": 0, "capacity": 2, "why": "gone"},
        {"id": "c", "region": "us", "state": "draining", "participants": 0, "capacity": 2, "why": ""},
    ]  # fmt: skip
    assert [judge_node(node).verdict.value for node in nodes] == ["ok", "fail", "warn"]
    checks = judge_regions({"eu": 2, "us": 1, "in": 0}, nodes)
    assert {check.subject: check.verdict.value for check in checks} == {
        "eu": "warn",
        "in": "ok",
        "us": "fail",
    }


METRICS = """\
# HELP relay_loop_lag_seconds How late the event loop was lately.
relay_loop_lag_seconds 0.003
relay_turn_answering 1.0
relay_turn_in_order 1.0
relay_turn_secrets 2.0
relay_turn_peers 3.0
relay_turn_synced_timestamp_seconds 1.79999999e+09
relay_turn_known_holes 0.0
relay_datagrams_total{hop="client",direction="in"} 5.0
"""


@pytest.mark.parametrize(
    ("changed", "name", "verdict"),
    [
        ("relay_turn_answering 1.0", "node-turn", "fail"),
        ("relay_turn_in_order 1.0", "node-turn", "fail"),
        ("nothing", "node-turn", "ok"),
        ("relay_turn_known_holes 0.0", "node-coturn", "warn"),
        ("relay_loop_lag_seconds 0.003", "node-load", "warn"),
    ],
)
def test_a_nodes_own_metrics(changed: str, name: str, verdict: str) -> None:
    flipped = {"1.0": "0.0", "0.0": "2.0", "0.003": "0.9"}
    word, _, value = changed.partition(" ")
    text = METRICS.replace(changed, f"{word} {flipped.get(value, value)}")
    assert verdicts(judge_samples("n", read_samples(text), NOW))[name] == verdict


def test_a_node_without_turn_is_well() -> None:
    assert verdicts(judge_samples("n", {"relay_loop_lag_seconds": 0.0}, NOW)) == {
        "node-load": "ok",
        "node-turn": "ok",
    }


def test_the_worst_counts_and_is_told_first() -> None:
    checks = [ok("a", "x[1]", "fine"), warn("b", "y", "old [text]", "renew")]
    assert worst(checks) is Verdict.WARN
    assert worst([]) is Verdict.OK
    text = io.StringIO()
    print_checks(Console(file=text, width=120), checks)
    assert "old [text]" in text.getvalue()
    assert "x[1]" in text.getvalue()
    assert text.getvalue().index("What to do") < text.getvalue().index("renew")


@pytest.mark.parametrize(
    ("seconds", "text"), [(9 * DAY, "9 days"), (7300, "2 hours"), (130, "2 minutes"), (5, "5 seconds")]
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# --- files ----------------------------------------------------------------------------------------


def test_files(tmp_path: Path) -> None:
    now = datetime.fromtimestamp(NOW, UTC)
    life = timedelta(days=90)
    authority = CertificateAuthority.create("a", now=now, lifetime=life)
    bundle = authority.issue(
        "spiffe://thalweg/controlplane/a", dns_names=["a.test"], ip_addresses=["192.0.2.1"], now=now, lifetime=life,
    )  # fmt: skip
    bundle.write(tmp_path / "tls")
    (check,) = look_at_tls_files(tmp_path / "tls", NOW + DAY)
    assert check.verdict is Verdict.OK, check
    assert "192.0.2.1" in check.seen
    other = CertificateAuthority.create("b", now=now, lifetime=life)
    other.issue("spiffe://thalweg/client/x", dns_names=["x"], ip_addresses=[], now=now, lifetime=life).write(
        tmp_path / "other"
    )  # fmt: skip
    (tmp_path / "tls" / "ca.pem").write_bytes((tmp_path / "other" / "ca.pem").read_bytes())
    (check,) = look_at_tls_files(tmp_path / "tls", NOW + DAY)
    assert (check.verdict, "did not sign" in check.seen) == (Verdict.FAIL, True)
    (tmp_path / "tls" / "key.pem").write_bytes((tmp_path / "other" / "key.pem").read_bytes())
    assert look_at_tls_files(tmp_path / "tls", NOW)[0].verdict is Verdict.FAIL
    assert look_at_tls_files(tmp_path / "nowhere", NOW)[0].verdict is Verdict.FAIL
    assert look_at_geoip(tmp_path / "no.mmdb", NOW)[0].verdict is Verdict.FAIL
    (tmp_path / "bad.yaml").write_text("version: 1\nregions: {A: {}}\n")
    (check,) = look_at_topology(tmp_path / "bad.yaml")
    assert (check.verdict, "thalweg topology validate" in check.todo) == (Verdict.FAIL, True)


# --- the command ----------------------------------------------------------------------------------


async def test_nobody_there_is_said_and_the_files_are_looked_at_anyway(tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text(
        "version: 1\nregions: {eu-a: {location: {lat: 1, lon: 1}}}\n"
    )
    done = await thalweg(
        None, "doctor", "--url", "http://127.0.0.1:1", "-o", "json",
        "--topology", str(tmp_path / "topology.yaml"), "--grpc", "127.0.0.1:1",
    )  # fmt: skip
    assert done.code == 2, done.err
    found = {check["check"]: check["verdict"] for check in done.json["checks"]}
    assert found == {"topology": "ok", "api": "fail", "grpc": "fail"}
    assert done.json["verdict"] == "fail"


async def test_without_a_key_it_says_so() -> None:
    done = await thalweg(None, "doctor", key=None)
    assert done.code == 2
    assert "There is no API key" in done.out
