import hashlib
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.cli.local_setup import (
    HOST,
    LocalSetupError,
    choose_port,
    free_port,
    plan_system,
    utc,
    write_secrets,
)
from controlplane.cli.local_topology import load_local_topology, pretended_probes


def test_every_process_gets_ports_of_its_own(tmp_path: Path) -> None:
    plan = plan_system(tmp_path / "t.yaml", ["eu-a", "us-b", "ap-c"], tmp_path, free_port(set()))
    ports = [plan.http, plan.grpc]
    for node in plan.nodes:
        ports += [node.http, node.media, node.trunk_grpc, node.trunk_udp]
    assert len(set(ports)) == 14
    assert [node.id for node in plan.nodes] == ["eu-a-1", "us-b-1", "ap-c-1"]


def test_a_region_with_the_longest_id_still_gives_a_node_id_of_63_characters(
    tmp_path: Path,
) -> None:
    plan = plan_system(tmp_path, ["r" * 63], tmp_path, 1)
    assert len(plan.nodes[0].id) == 63


def test_a_usual_port_that_is_taken_gives_way_and_an_asked_one_is_an_error() -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert choose_port(None, taken) != taken
        with pytest.raises(LocalSetupError, match=f"port {taken} on 127.0.0.1 is in use"):
            choose_port(taken, 1)
    free = free_port(set())
    assert choose_port(free, taken) == free
    assert choose_port(None, free) == free


def test_secrets_are_private_and_the_key_is_stored_hashed(tmp_path: Path) -> None:
    plan = plan_system(tmp_path / "t.yaml", ["eu-a"], tmp_path, 1)
    write_secrets(plan, now=utc(1_700_000_000))
    stored = (tmp_path / "api-keys").read_text()
    assert stored == f"dev:{hashlib.sha256(plan.api_key.encode()).hexdigest()}\n"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert plan.api_key not in "".join(path.read_text() for path in files)
    assert (tmp_path / "tls" / "eu-a-1" / "cert.pem").is_file()


def test_utc_is_utc() -> None:
    assert utc(0) == datetime(1970, 1, 1, tzinfo=UTC)


def test_the_demo_topology_gives_everybody_probes_of_all_regions() -> None:
    topology = load_local_topology().topology
    probes = pretended_probes(topology, "us-virginia")
    assert probes == {"us-virginia": 5.0, "eu-frankfurt": 95.0, "ap-singapore": 229.0}


def test_a_topology_with_mistakes_is_refused_with_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nregions:\n  eu-a: {location: {lat: 95, lon: 0}}\n")
    with pytest.raises(LocalSetupError, match=r"bad\.yaml:3:"):
        load_local_topology(path)
    with pytest.raises(LocalSetupError, match="cannot read"):
        load_local_topology(tmp_path / "none.yaml")
