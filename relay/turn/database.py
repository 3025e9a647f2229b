"""coturn's SQLite file: the secrets that it accepts and the peers that it relays to.

`turnadmin -s SECRET` writes the same table, but shows the secret to every user of the machine in its command line.

coturn reads secrets with every allocation and peers every 5 s, and has no patience with a locked file: a request that
meets one is refused. So the journal is a write-ahead log, in which readers never wait for a writer.
"""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS turn_secret"
    " (realm varchar(127) default '', value varchar(127), primary key (realm,value))",
    "CREATE TABLE IF NOT EXISTS allowed_peer_ip"
    " (realm varchar(127) default '', ip_range varchar(256), primary key (realm,ip_range))",
)
"""As coturn 4.5 to 4.17 make them; the other tables it adds by itself."""

LOCK_WAIT_S = 5.0
"""For coturn itself, which writes when it makes its tables."""


class TurnDatabase:
    """The file; each call opens it, because coturn or its operator may replace it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sync(self, realm: str, secrets: Iterable[str], peers: Iterable[str]) -> bool:
        """Make the tables say exactly this; return whether anything changed.

        Blocks: call it in a thread. Raises OSError, also for what SQLite cannot do.
        """
        wanted = {
            "turn_secret": {(realm, secret) for secret in secrets},
            "allowed_peer_ip": {(realm, peer) for peer in peers},
        }
        self._create()
        try:
            with closing(sqlite3.connect(self.path, timeout=LOCK_WAIT_S)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                with connection:
                    for statement in SCHEMA:
                        connection.execute(statement)
                    changes = [_sync(connection, table, rows) for table, rows in wanted.items()]
        except sqlite3.Error as error:
            raise OSError(f"{self.path}: {error}") from error
        return any(changes)

    def _create(self) -> None:
        """Make an empty file that only its owner reads, before SQLite makes one that everybody does."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))


def _sync(connection: sqlite3.Connection, table: str, wanted: set[tuple[str, str]]) -> bool:
    column = {"turn_secret": "value", "allowed_peer_ip": "ip_range"}[table]
    # Names of tables and columns are ours; values are bound.
    present = set(connection.execute(f"SELECT realm, {column} FROM {table}"))  # noqa: S608
    connection.executemany(
        f"DELETE FROM {table} WHERE realm = ? AND {column} = ?",  # noqa: S608
        sorted(present - wanted),
    )
    connection.executemany(
        f"INSERT INTO {table} (realm, {column}) VALUES (?, ?)",  # noqa: S608
        sorted(wanted - present),
    )
    return present != wanted
