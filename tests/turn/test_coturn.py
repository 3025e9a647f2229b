"""coturn itself, as a node configures, feeds and runs it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.transport.clock import wall
from tests.turn.lab import OTHER_SECRET, REALM, SECRET, TLS_PORT, Lab

pytestmark = pytest.mark.e2e

FORBIDDEN = (
    # IPv4: this network, private, shared, loopback, link-local (cloud metadata), protocol assignments, documentation,
    # 6to4 relays, benchmarks, multicast, reserved, broadcast (RFC 6890), and a public one.
    "0.0.0.0",  # noqa: S104
    "0.0.0.1", "10.0.0.1", "10.99.0.1", "10.99.0.4", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "8.8.8.8",
    # IPv6: unspecified, loopback, mapped, compatible, translated, NAT64, local-use NAT64, 6to4, Teredo, unique local,
    # metadata, link-local, site-local, multicast, documentation, and a public one.
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.99.0.3", "::ffff:10.99.0.4", "::ffff:169.254.169.254", "::10.99.0.3",
    "::127.0.0.1", "::ffff:0:10.99.0.3", "64:ff9b::a9fe:a9fe", "64:ff9b::a63:3", "64:ff9b:1::a63:3", "2002:a63:3::1",
    "2002:7f00:1::", "2001:0:a63:3::1", "fc00::1", "fd00:ec2::254", "fd99::1", "fd99::4", "fe80::1", "fec0::1",
    "ff02::1", "2001:db8::1", "2606:4700:4700::1111",
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("turn")) as lab:
        yield lab


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def test_every_transport_takes_a_good_credential(lab: Lab) -> None:
    assert lab.allocate(transport="udp") == ["ok"]
    assert lab.allocate(transport="tcp") == ["ok"]
    assert lab.allocate(transport="tls", port=TLS_PORT) == ["ok"]
    assert lab.allocate(host=lab.hosts["turn"].ipv6) == ["ok"]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({"secret": "c" * 64}, id="forged"),
        pytest.param({"ttl_s": -1}, id="expired"),
        pytest.param({"secret": ""}, id="empty secret"),
    ],
)
def test_a_bad_credential_is_refused(lab: Lab, made: dict[str, str]) -> None:
    assert lab.allocate(**lab.credential(**made)) == ["401"]  # type: ignore[arg-type]


def test_nobody_comes_in_without_a_credential(lab: Lab) -> None:
    assert lab.allocate(username=None, credential=None) == ["401"]


def test_a_changed_user_name_is_refused(lab: Lab) -> None:
    made = lab.credential()
    expiry, _, user = made["username"].partition(":")
    assert lab.allocate(username=f"{int(expiry) + 1}:{user}", credential=made["credential"]) == [
        "401"
    ]


def test_it_relays_to_the_sfu_and_to_nobody_else(lab: Lab) -> None:
    sfu = lab.hosts["sfu"]
    answers = lab.peers([sfu.ipv4, sfu.ipv6, *FORBIDDEN])
    assert answers.pop(sfu.ipv4) == ["ok", "ok"]
    assert answers.pop(sfu.ipv6) == ["ok", "ok"]
    let_through = {peer: got for peer, got in answers.items() if "ok" in got}
    assert not let_through
    assert set(answers) == set(FORBIDDEN)
    assert {code for got in answers.values() for code in got} <= {"403", "400"}


def test_a_participant_has_a_quota(lab: Lab) -> None:
    answers = lab.allocate(times=25, **lab.credential(user="greedy"))
    assert answers == ["ok"] * 24 + ["486"]
    assert lab.allocate() == ["ok"], "others have their own"


def test_secrets_are_on_no_command_line_and_in_no_log(lab: Lab) -> None:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:  # it has ended
            continue
    assert not [line for line in lines if SECRET.encode() in line and b"tests.turn" not in line]
    assert SECRET not in lab.log
    modes = {
        path.name: path.stat().st_mode & 0o077 for path in Path(lab.orders["dir"]).glob("turn*")
    }
    assert {name for name, mode in modes.items() if mode} <= {"turnserver.pid"}


def test_rotation_drops_nobody_and_takes_both(own_lab: Lab) -> None:
    lab = own_lab
    live = lab.hold()
    assert live.ping() == {"refresh": "ok", "bind": "ok", "echoed": 5}
    lab.orders["secrets"] = [[OTHER_SECRET, wall() + 3600], [SECRET, wall() + 3600]]
    lab.publish()
    lab.eventually(lambda: lab.allocate(**lab.credential(OTHER_SECRET)) == ["ok"], within_s=3)
    assert lab.allocate(**lab.credential(SECRET)) == ["ok"], "the old one is good beside it"
    lab.orders["secrets"] = [[OTHER_SECRET, wall() + 3600]]
    lab.publish()
    lab.eventually(lambda: lab.allocate(**lab.credential(SECRET)) == ["401"])
    assert live.ping() == {"refresh": "ok", "bind": "ok", "echoed": 5}, "opened with the old secret"
    assert lab.log.count("coturn started") == 1
    live.end()


def test_whatever_a_secret_signed_ends_with_it(own_lab: Lab) -> None:
    """Any expiry is taken by coturn. What caps it is that the secret leaves, by the node's own clock."""
    lab = own_lab
    ten_years = {"ttl_s": 10 * 365 * 86_400.0}
    lab.orders["secrets"] = [[SECRET, wall() + 3600], [OTHER_SECRET, int(wall() + 4)]]
    lab.publish()
    lab.eventually(
        lambda: lab.allocate(**lab.credential(OTHER_SECRET, **ten_years)) == ["ok"]  # type: ignore[arg-type]
    )
    lab.eventually(
        lambda: lab.allocate(**lab.credential(OTHER_SECRET, **ten_years)) == ["401"]  # type: ignore[arg-type]
    )
    assert lab.allocate() == ["ok"], "the other secret goes on"


def test_a_node_that_comes_is_relayed_to_without_a_restart(own_lab: Lab) -> None:
    lab, other = own_lab, own_lab.hosts["other"]
    live = lab.hold()
    assert lab.peers([other.ipv4])[other.ipv4] == ["403", "403"]
    lab.orders["peers"].append(other.ipv4)
    lab.publish()
    # It reads the list every 5 s.
    lab.eventually(lambda: lab.peers([other.ipv4])[other.ipv4] == ["ok", "ok"], within_s=8)
    assert live.ping()["echoed"] == 5
    assert lab.log.count("coturn started") == 1
    live.end()


def test_a_killed_server_comes_back_and_one_ends_with_its_node(own_lab: Lab) -> None:
    lab = own_lab
    pid = int((Path(lab.orders["dir"]) / "turnserver.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    lab.eventually(lambda: lab.allocate() == ["ok"], within_s=5)
    assert lab.log.count("coturn started") == 2
    pid = int((Path(lab.orders["dir"]) / "turnserver.pid").read_text())
    lab.server.kill()
    lab.server.wait()
    lab.eventually(lambda: not _lives(pid))
    lab.start()
    assert lab.allocate() == ["ok"]


def test_another_port_or_realm_restarts_it(own_lab: Lab) -> None:
    lab = own_lab
    lab.orders |= {"port": 3479, "realm": f"{REALM}-2", "transports": ["udp"]}
    lab.publish()
    lab.eventually(lambda: lab.allocate(port=3479) == ["ok"])
    assert lab.allocate(transport="tcp", port=3479) == ["refused"]


def test_a_renewed_certificate_is_taken_while_calls_go_on(own_lab: Lab) -> None:
    lab = own_lab
    live = lab.hold()
    lab.renew_certificate()  # its authority is another one, too, and so is the client's
    lab.eventually(lambda: "certificate changed" in lab.log)
    lab.eventually(lambda: lab.allocate(transport="tls", port=TLS_PORT) == ["ok"])
    assert live.ping() == {"refresh": "ok", "bind": "ok", "echoed": 5}
    assert lab.log.count("coturn started") == 1
    live.end()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
