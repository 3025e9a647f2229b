"""turnserver.conf, the database, the command line: what needs no coturn, and what it makes of its own schema."""

import argparse
import sqlite3
import subprocess
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from relay.turn.config import find_listener, render
from relay.turn.database import SCHEMA, TurnDatabase
from relay.turn.model import Listener, TurnMode, TurnSettings
from relay.turn.settings import add_turn_flags, turn_settings
from relay.turn.version import HOLES, holes, parse_version
from tests.conftest import require

LISTENER = Listener("turn.test", 3478, 443)
ALL = frozenset({"udp", "tcp", "tls"})
SETTINGS = TurnSettings(
    mode=TurnMode.FILES,
    directory=Path("/var/lib/thalweg/turn"),
    host="",
    listen=("10.0.0.5", "2001:db8::5"),
    external=("203.0.113.9/10.0.0.5",),
    ports=(50_000, 50_099),
    cert=Path("/etc/turn/cert.pem"),
    key=Path("/etc/turn/key.pem"),
)

# --- turnserver.conf ------------------------------------------------------------------------------


def lines(settings: TurnSettings = SETTINGS, transports: frozenset[str] = ALL) -> list[str]:
    return render(settings, "eu-a", LISTENER, transports).splitlines()


def test_the_file_says_where_and_what_for() -> None:
    assert {
        "realm=eu-a",
        "userdb=/var/lib/thalweg/turn/turn.db",
        "listening-ip=10.0.0.5",
        "relay-ip=10.0.0.5",
        "listening-ip=2001:db8::5",
        "relay-ip=2001:db8::5",
        "external-ip=203.0.113.9/10.0.0.5",
        "listening-port=3478",
        "tls-listening-port=443",
        "cert=/etc/turn/cert.pem",
        "pkey=/etc/turn/key.pem",
        "min-port=50000",
        "max-port=50099",
        "total-quota=100",
    } <= set(lines())


def test_the_file_opens_nothing_that_a_participant_does_not_need() -> None:
    assert {
        "denied-peer-ip=0.0.0.0-255.255.255.255",
        "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "no-cli",
        "no-multicast-peers",
        "no-tcp-relay",
        "no-dtls",
        "fingerprint",
        "use-auth-secret",
    } <= set(lines())
    said = "\n".join(lines())
    for word in ("allow", "static-auth-secret", "redis", "web-admin", "oauth", "mobility"):
        assert word not in said


@pytest.mark.parametrize(
    ("transports", "there"),
    [
        ({"udp"}, {"no-tcp", "no-tls"}),
        ({"tcp"}, {"no-udp", "no-tls"}),
        ({"tls"}, {"no-udp", "no-tcp"}),
        (ALL, set()),
    ],
)
def test_listeners_are_those_that_clients_are_told(transports: set[str], there: set[str]) -> None:
    assert {"no-udp", "no-tcp", "no-tls"} & set(lines(transports=frozenset(transports))) == there


def test_without_a_certificate_there_is_no_tls() -> None:
    assert "no-tls" in lines(replace(SETTINGS, cert=None, key=None))


def test_this_server_is_found_among_the_regions() -> None:
    other = Listener("other.test", 3479, 443)
    assert find_listener((LISTENER,), "") == LISTENER
    assert find_listener((LISTENER, other), "other.test") == other
    assert "--turn-host" in str(find_listener((LISTENER, other), ""))
    assert "nobody.test" in str(find_listener((LISTENER, other), "nobody.test"))
    assert "none" in str(find_listener((), ""))


# --- the database ---------------------------------------------------------------------------------


def content(path: Path) -> tuple[set[str], set[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return (
            {value for (value,) in connection.execute("SELECT value FROM turn_secret")},
            {value for (value,) in connection.execute("SELECT ip_range FROM allowed_peer_ip")},
        )


def test_the_database_says_exactly_what_it_should(tmp_path: Path) -> None:
    database = TurnDatabase(tmp_path / "turn" / "turn.db")
    assert database.sync("eu-a", ["one", "two"], ["10.0.0.1"])
    assert not database.sync("eu-a", ["two", "one"], ["10.0.0.1"])
    assert database.sync("eu-a", ["two", "three"], ["10.0.0.2", "2001:db8::1"])
    assert content(database.path) == ({"two", "three"}, {"10.0.0.2", "2001:db8::1"})
    assert database.sync("eu-b", ["two"], [])
    assert content(database.path) == ({"two"}, set())
    for path in database.path.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0
    database.path.unlink()
    assert database.sync("eu-b", ["two"], [])


def test_a_broken_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "turn.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(OSError, match=r"turn\.db: file is not a database"):
        TurnDatabase(path).sync("eu-a", ["one"], [])


def test_whoever_reads_never_waits_for_who_writes(tmp_path: Path) -> None:
    """A coturn that meets a lock refuses the client."""
    database = TurnDatabase(tmp_path / "turn.db")
    database.sync("eu-a", ["one"], [])
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            database.sync("eu-a", [f"secret-{number}"], [f"10.0.0.{number}"])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    with closing(sqlite3.connect(database.path, timeout=0)) as reader:
        while not done.is_set():
            assert len(reader.execute("SELECT value FROM turn_secret").fetchall()) == 1
            reads += 1
    writer.join()
    assert reads > 10


def test_the_schema_is_the_one_that_turnadmin_makes(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    subprocess.run(
        [require("turnadmin"), "--list", "--db", str(path)],
        check=True,
        capture_output=True,
        timeout=10,
        cwd=tmp_path,
    )

    def columns(where: str | Path, table: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(where)) as connection:
            for statement in SCHEMA if where == ":memory:" else ():
                connection.execute(statement)
            return connection.execute(f"PRAGMA table_info({table})").fetchall()

    for table in ("turn_secret", "allowed_peer_ip"):
        assert columns(path, table) == columns(":memory:", table) != []


# --- the command line -----------------------------------------------------------------------------


def parsed(tmp_path: Path, *flags: str) -> TurnSettings | None:
    command = argparse.ArgumentParser()
    command.add_argument("--state-dir", type=Path, default=tmp_path)
    add_turn_flags(command.add_argument)
    return turn_settings(command.parse_args(flags))


def test_without_the_flag_there_is_no_turn_server(tmp_path: Path) -> None:
    assert parsed(tmp_path) is None


def test_few_flags_are_needed(tmp_path: Path) -> None:
    settings = parsed(tmp_path, "--turn", "files", "--turn-listen", "192.0.2.1")
    assert settings is not None
    assert settings.directory == tmp_path / "turn"
    assert (settings.listen, settings.ports) == (("192.0.2.1",), (49_152, 65_535))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--turn-listen") as caught:
        parsed(
            tmp_path,
            *("--turn", "files", "--turn-listen", "0.0.0.0", "--turn-listen", "turn.test"),  # noqa: S104
            *("--turn-external", "1.2.3.4/there", "--turn-ports", "9-8"),
            *("--turn-cert", "nowhere.pem", "--turn-dir", "/var/lib/a b"),
        )
    said = str(caught.value)
    for word in ("'turn.test'", "0.0.0.0", "'there'", "9-8", "--turn-key", "nowhere.pem", "blanks"):  # noqa: S104
        assert word in said, word


# --- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [("4.6.1\n", (4, 6, 1)), ("Coturn-4.17.1 'Gorst'", (4, 17, 1)), ("", None), ("no", None)],
)
def test_versions_are_read(text: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(text) == version


def test_debians_coturn_has_known_holes_and_what_they_are_is_said() -> None:
    found = {hole.id: hole.closed_by for hole in holes((4, 6, 1))}
    assert found["CVE-2026-27624"]
    assert found["GHSA-4g7c-p5wg-j4hp"]
    assert found["CVE-2026-40613"] is None
    assert "CVE-2020-26262" not in found, "mended in 4.5.2"
    assert "CVE-2025-69217" not in found, "came later"
    assert not holes((4, 17, 1))
    assert len({hole.id for hole in HOLES}) == len(HOLES)
