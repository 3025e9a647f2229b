"""What a node does with TURN orders, by a clock that the test reads out."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thalweg.v1 import node_pb2

from relay.api.turn_wire import turn_from_wire
from relay.transport.clock import wall
from relay.turn.model import Listener, Secret, TurnMode, TurnOrders, TurnSettings
from relay.turn.process import LINES_PER_MINUTE, Complaints, redact
from relay.turn.server import PEER_LINGER_S, TurnServer

NOW = 1_800_000_000.0
A, B = "a" * 64, "b" * 64
ORDERS = TurnOrders(
    realm="eu-a",
    secrets=(Secret(A, int(NOW) + 100), Secret(B, int(NOW) + 200)),
    peers=("10.0.0.1", "10.0.0.2"),
    listeners=(Listener("turn.test", 3478, 443),),
    transports=frozenset({"udp", "tcp"}),
)


@pytest.fixture
def server(tmp_path: Path) -> TurnServer:
    return TurnServer(
        TurnSettings(
            mode=TurnMode.FILES,
            directory=tmp_path,
            host="",
            listen=("192.0.2.1",),
            external=(),
            ports=(50_000, 50_099),
            cert=None,
            key=None,
        )
    )


def database(tmp_path: Path) -> tuple[list[str], list[str]]:
    with closing(sqlite3.connect(tmp_path / "turn.db")) as connection:
        secrets = connection.execute("SELECT value FROM turn_secret ORDER BY 1").fetchall()
        peers = connection.execute("SELECT ip_range FROM allowed_peer_ip ORDER BY 1").fetchall()
    return [one for (one,) in secrets], [one for (one,) in peers]


async def test_secrets_leave_at_their_end_without_new_orders(
    server: TurnServer, tmp_path: Path
) -> None:
    server.desired(ORDERS)
    assert await server._apply(NOW) == ""
    assert database(tmp_path)[0] == [A, B]
    assert await server._apply(NOW + 100) == ""
    assert database(tmp_path)[0] == [B]
    assert "every secret has ended" in await server._apply(NOW + 200)
    assert database(tmp_path)[0] == []
    assert server.status.secrets == 0


async def test_peers_linger_since_permissions_are_renewed(
    server: TurnServer, tmp_path: Path
) -> None:
    server.desired(ORDERS)
    await server._apply(NOW)
    server.desired(replace(ORDERS, peers=("10.0.0.2",)))
    await server._apply(NOW + 1)
    assert database(tmp_path)[1] == ["10.0.0.1", "10.0.0.2"]
    await server._apply(NOW + PEER_LINGER_S + 1)
    assert database(tmp_path)[1] == ["10.0.0.2"]


async def test_what_somebody_else_did_to_the_files_is_undone(
    server: TurnServer, tmp_path: Path
) -> None:
    server.desired(ORDERS)
    await server._apply(NOW)
    (tmp_path / "turn.db").unlink()
    await server._apply(NOW + 61)
    assert database(tmp_path)[0] == [A, B]


async def test_a_region_that_loses_turn_opens_nothing_new(
    server: TurnServer, tmp_path: Path
) -> None:
    assert "not been heard" in await server._apply(NOW)
    server.desired(None)
    assert "--turn-secret-file" in await server._apply(NOW)
    assert not (tmp_path / "turn.db").exists()
    server.desired(ORDERS)
    await server._apply(NOW)
    server.desired(None)
    assert "taken from this region" in await server._apply(NOW + 1)
    assert database(tmp_path) == ([], ["10.0.0.1", "10.0.0.2"]), "live calls renew permissions"


async def test_what_is_wrong_is_said(server: TurnServer, tmp_path: Path) -> None:
    server.desired(replace(ORDERS, listeners=()))
    assert "no TURN server" in await server._apply(NOW)
    server.desired(replace(ORDERS, transports=frozenset({"udp", "tls"})))
    assert "--turn-cert" in await server._apply(NOW)
    (tmp_path / "turnserver.conf").unlink()
    (tmp_path / "turnserver.conf").mkdir()
    server.desired(replace(ORDERS, realm="eu-b"))
    assert "turnserver.conf" in await server._apply(NOW)


async def test_it_writes_the_same_file_once(server: TurnServer, tmp_path: Path) -> None:
    server.desired(ORDERS)
    await server._apply(NOW)
    path = tmp_path / "turnserver.conf"
    written = path.stat().st_ino
    await server._apply(NOW + 1)
    assert path.stat().st_ino == written
    assert path.stat().st_mode & 0o077 == 0
    assert A not in path.read_text()


# --- orders off the wire --------------------------------------------------------------------------


def wire_orders() -> node_pb2.TurnOrders:
    return node_pb2.TurnOrders(
        realm="eu-a",
        secrets=[node_pb2.TurnSecret(value=A, not_after=int(wall()))],
        peers=["203.0.113.7", "2001:DB8::7"],
        listeners=[node_pb2.TurnListener(host="turn.test", port=3478, tls_port=443)],
        transports=["udp", "tls"],
    )


def test_orders_are_read() -> None:
    orders = turn_from_wire(wire_orders())
    assert orders.peers == ("203.0.113.7", "2001:db8::7")
    assert orders.transports == {"udp", "tls"}
    assert A not in repr(orders), "logs show reprs"


@pytest.mark.parametrize(
    "fault",
    [
        {"realm": "a\nno-auth"},
        {"realm": ""},
        {"secrets": [node_pb2.TurnSecret(value="short")]},
        {"secrets": [node_pb2.TurnSecret(value="a" * 40 + "'; --")]},
        {"secrets": [node_pb2.TurnSecret(value=A)] * 65},
        {"peers": ["0.0.0.0-255.255.255.255"]},
        {"peers": ["turn.test"]},
        {"listeners": [node_pb2.TurnListener(host="x", port=70_000, tls_port=443)]},
        {"listeners": [node_pb2.TurnListener(host="x", port=3478)]},
    ],
    ids=str,
)
def test_orders_that_could_do_harm_are_refused(fault: dict[str, object]) -> None:
    message = wire_orders()
    for field in fault:
        message.ClearField(field)  # type: ignore[arg-type]
    message.MergeFrom(node_pb2.TurnOrders(**fault))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r".") as caught:
        turn_from_wire(message)
    assert A not in str(caught.value)


# --- what coturn says -----------------------------------------------------------------------------


def test_addresses_are_cut_out_of_its_log() -> None:
    line = "ERROR: session 1: peer 203.0.113.77 and 2001:db8:1:2:3:4:5:6 and ::ffff:203.0.113.77 denied"
    said = redact(line)
    for part in ("113.77", ":3:4:5", "0.113"):
        assert part not in said
    assert "203.0" in said


@given(st.ip_addresses().filter(lambda address: address.is_global))
def test_no_clients_address_is_in_its_log(address: IPv4Address | IPv6Address) -> None:
    for form in (str(address), f"{address}:5000", f"[{address}]:5000", f"<{address.exploded}>"):
        said = redact(f"1: : ERROR: session 001: remote {form}, closed")
        assert str(address) not in said
        assert address.exploded not in said
        assert said.endswith("closed")


def test_its_complaints_cannot_fill_a_disk(capsys: pytest.CaptureFixture[str]) -> None:
    complaints = Complaints()
    for second in range(30):
        for _ in range(100):
            complaints.heard("1: : ERROR: check_stun_auth: Cannot find credentials", second)
            complaints.heard("1: : INFO: nothing of interest", second)
    complaints.heard("2: : ERROR: another minute", 61)
    lines = [line for line in capsys.readouterr().out.splitlines() if "coturn" in line]
    assert len(lines) == LINES_PER_MINUTE + 2
    assert str(3000 - LINES_PER_MINUTE) in "".join(lines)
