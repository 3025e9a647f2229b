"""Calls over TURN and nothing else, through a real control plane, a real edge and its real coturn."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.core.model import RegionId
from controlplane.core.turn import period, region_secret, turn_credential
from relay.transport.clock import wall
from tests.turn.region import REGION, START_WITHIN_S, Participant, System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A region that the tests share: they leave it as it is."""
    with System(tmp_path_factory.mktemp("turn")) as system:
        yield system


@pytest.fixture
def own_system(tmp_path: Path) -> Iterator[System]:
    """A region that a test may break."""
    with System(tmp_path) as system:
        yield system


def credential(master: str, *, ttl_s: int = 600, now: float | None = None) -> dict[str, str]:
    """Return what the control plane would hand out, of a user of its own."""
    when = wall() if now is None else now
    secret = region_secret(master.encode(), RegionId(REGION), period(when))
    made = turn_credential(secret, f"u_{time.monotonic_ns()}", now=when, ttl_s=ttl_s)
    return {"username": made.username, "credential": made.credential}


def test_relay_only_participants_hear_each_other_whatever_dies_or_rotates(
    own_system: System,
) -> None:
    system = own_system
    ana, bob = system.call("ana"), system.call("bob")
    system.eventually(lambda: ana.hears("bob") and bob.hears("ana"))
    assert set(ana.said["candidates"]) == set(bob.said["candidates"]) == {"relay"}
    (server,) = ana.turn
    edge = system.hosts["edge"].ipv4
    assert server["urls"] == [
        f"turn:{edge}:3478?transport=udp",
        f"turn:{edge}:3478?transport=tcp",
        f"turns:{edge}:443?transport=tcp",
    ]

    # Rotation under the live call: the new one is in force beside the old one, then alone.
    fresh = "f" * 64
    system.secret_file.write_text(f"{fresh}\n{system.master}\n")
    system.eventually(lambda: system.ask("ana", "allocate", **credential(fresh)) == ["ok"])
    assert system.ask("ana", "allocate", **credential(system.master)) == ["ok"]
    system.secret_file.write_text(f"{fresh}\n")
    system.eventually(lambda: system.ask("ana", "allocate", **credential(system.master)) == ["401"])
    _still_hear_each_other(system, ana, bob)

    # Neither the control plane nor Redis is in TURN's path.
    system.kill_control_plane_and_redis()
    assert system.ask("ana", "allocate", **credential(fresh)) == ["ok"]
    assert system.ask("ana", "peers", peers=[edge], **credential(fresh))[edge] == ["ok", "ok"]
    _still_hear_each_other(system, ana, bob)
    assert system.log("edge").count("coturn started") == 1


def _still_hear_each_other(system: System, ana: Participant, bob: Participant) -> None:
    """Two seconds' worth of frames come within a few: nobody was dropped."""
    before = ana.frames("bob"), bob.frames("ana")
    system.eventually(
        lambda: ana.frames("bob") > before[0] + 20 and bob.frames("ana") > before[1] + 20,
        within_s=8,
    )


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_the_other_transports_carry_a_call_too(system: System, transport: str) -> None:
    room = f"over-{transport}"
    ana = system.call("ana", transport=transport, room=room)
    bob = system.call("bob", room=room)
    system.eventually(lambda: ana.hears("bob") and bob.hears("ana"))
    assert set(ana.said["candidates"]) == {"relay"}
    ana.leave()
    bob.leave()


def test_bad_credentials_and_foreign_peers_are_refused(system: System) -> None:
    good = credential(system.master)
    assert system.ask("ana", "allocate", **good) == ["ok"]
    faults = {
        "expired": credential(system.master, now=wall() - 601),
        "forged": credential("0" * 64),
        "of another region": {
            "username": good["username"],
            "credential": turn_credential(
                region_secret(system.master.encode(), RegionId("eu-b"), period(wall())),
                good["username"].partition(":")[2],
                now=wall(),
                ttl_s=600,
            ).credential,
        },
        "future-dated: signed for a period whose secret no server has yet": credential(
            system.master, now=wall() + 86_400
        ),
    }
    for fault, made in faults.items():
        assert system.ask("ana", "allocate", **made) == ["401"], fault
    hosts = system.hosts
    answers = system.ask(
        "ana", "peers", peers=[hosts[name].ipv4 for name in ("control", "bob", "edge")], **good
    )
    assert answers == {
        hosts["control"].ipv4: ["403", "403"],
        hosts["bob"].ipv4: ["403", "403"],
        hosts["edge"].ipv4: ["ok", "ok"],
    }


def test_a_node_that_restarts_alone_serves_turn_from_its_disk(own_system: System) -> None:
    system = own_system
    system.kill_control_plane_and_redis()
    system.restart_edge()
    made = credential(system.master)
    system.eventually(
        lambda: "relay_turn_answering 1.0" in system.edge_metrics(), within_s=START_WITHIN_S
    )
    assert system.ask("ana", "allocate", **made) == ["ok"]
