import os
import shutil
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from controlplane.cli.local_setup import is_free
from tests.e2e.harness import Up, http, read_errors_until, still_running, thalweg
from tests.fakes.waiting import eventually_sync

pytestmark = pytest.mark.e2e
FREE_PORTS = ("--http-port", "0", "--demo-port", "0")
JOIN = {
    "session": "tab-1",
    "probes": [
        {"region": "us-virginia", "rtt_ms": [5]},
        {"region": "eu-frankfurt", "rtt_ms": [95]},
        {"region": "ap-singapore", "rtt_ms": [229]},
    ],
}


def test_it_is_ready_within_five_seconds_with_a_node_in_every_region(system: Up) -> None:
    assert system.facts["ready_s"] <= 5
    status, fleet = system.call("GET", "/v1/nodes")
    assert status == 200
    assert {(node["region"], node["state"]) for node in fleet["nodes"]} == {
        ("eu-frankfurt", "serving"),
        ("us-virginia", "serving"),
        ("ap-singapore", "serving"),
    }


def test_a_join_lands_beside_the_participant_and_a_repeated_one_gets_the_same_answer(
    system: Up,
) -> None:
    path = "/v1/rooms/first/participants/ana"
    status, first = system.call("PUT", path, JOIN)
    assert status == 201
    assert first["node"]["region"] == "us-virginia"
    assert first["decision"]["because"]
    status, again = system.call("PUT", path, JOIN)
    assert status == 200
    assert (again["node"], again["epoch"]) == (first["node"], first["epoch"])
    assert system.call("DELETE", path)[0] == 204
    assert system.call("DELETE", path)[0] == 404


def test_without_the_key_nothing_is_told(system: Up) -> None:
    status, problem = http("GET", system.facts["http_url"] + "/v1/nodes", api_key="wrong")
    assert status == 401
    assert problem["code"]


def test_the_demo_page_is_there(system: Up) -> None:
    with socket.create_connection(
        (urlsplit(system.facts["demo_url"]).hostname, urlsplit(system.facts["demo_url"]).port)
    ) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_ctrl_c_leaves_no_process_no_port_and_no_file() -> None:
    with Up(*FREE_PORTS) as up:
        urls = [up.facts["http_url"], up.facts["demo_url"]]
        urls += [node["http_url"] for node in up.facts["nodes"]]
        errors = up.stop(signal.SIGINT)
        assert up.process.returncode == 0, errors
        assert "Traceback" not in errors
        assert still_running(list(up.pids.values())) is None
        assert all(is_free(urlsplit(url).port or 0) for url in urls)
        assert not Path(up.facts["tls_dir"]).exists()


def test_killing_it_outright_takes_its_children_along() -> None:
    with Up(*FREE_PORTS) as up:
        up.stop(signal.SIGKILL)
        eventually_sync(lambda: still_running(list(up.pids.values())))
        # The one thing that nobody is left to remove.
        shutil.rmtree(Path(up.facts["tls_dir"]).parents[1])


def test_a_node_that_dies_is_told_about_and_the_rest_keeps_running() -> None:
    with Up(*FREE_PORTS) as up:
        os.kill(up.pids["us-virginia-1"], signal.SIGKILL)
        line = read_errors_until(up, "us-virginia-1 was ended by SIGKILL")
        assert "keeps running" in line

        def lost() -> str | None:
            states = {n["id"]: n["state"] for n in up.call("GET", "/v1/nodes")[1]["nodes"]}
            return None if states.get("us-virginia-1") in ("lost", None) else str(states)

        eventually_sync(lost, timeout=10)
        status, answer = up.call("PUT", "/v1/rooms/r/participants/ana", JOIN)
        assert status == 201
        assert answer["node"]["region"] == "eu-frankfurt"


def test_an_asked_port_that_is_taken_is_refused_with_a_sentence() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = thalweg("up", "--http-port", str(port))
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr


def test_a_topology_with_a_mistake_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nregions:\n  eu-a: {locaton: {lat: 1, lon: 2}}\n")
    done = thalweg("up", "--topology", str(path))
    assert done.returncode == 1
    assert "bad.yaml:3:" in done.stderr
