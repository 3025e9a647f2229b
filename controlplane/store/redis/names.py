"""Names of keys. Those of one partition share a hash tag, so they lie in one slot of Redis Cluster."""

from zlib import crc32

from controlplane.core.model import RoomId
from controlplane.store.redis.connect import tag
from controlplane.store.view import Key

FLEET = 0
"""The partition of what belongs to no room."""


LOG_LENGTH = 32_768
"""Entries of a partition's log: ten seconds of a join storm, which is as long as a replica may be held up without
loading everything anew; 35 MB."""


def partition_of(room: RoomId, partitions: int) -> int:
    """Return where a room lies. Never changes: all replicas of all releases have to agree."""
    return crc32(room.encode()) % partitions


class Names:
    """The keys of one partition."""

    def __init__(self, partition: int) -> None:
        self.tag = tag(partition)
        self.log = f"{self.tag}:log"
        """STREAM: every change and every event."""
        self.meta = f"{self.tag}:meta"
        """HASH: how many entries each log had, generation, name of the data set."""
        self.fleet_log = f"{self.tag}:fleet"
        """STREAM: changes of the hashes below, and of the topology."""
        self.learned = f"{self.tag}:learned"
        """STREAM: round trips that sessions taught."""
        self.gone_prefix = f"{self.tag}:gone:"
        self.topology = f"{self.tag}:topology"
        self.tokens = f"{self.tag}:tokens"
        self.replicas = f"{self.tag}:replicas"

    def room(self, room: str) -> str:
        """HASH: participant → record."""
        return f"{self.tag}:room:{room}"

    def gone(self, key: Key) -> str:
        """STRING: the highest epoch of somebody who left."""
        return f"{self.gone_prefix}{key[0]}/{key[1]}"

    def to(self, node: str) -> str:
        """ZSET: the numbers of the log's last entries that put somebody on a node."""
        return f"{self.tag}:to:{node}"

    def hash(self, kind: str) -> str:
        """HASH of the fleet: "nodes", "drains" or "links"."""
        return f"{self.tag}:{kind}"

    def of(self, key: Key) -> tuple[str, str, str, str]:
        """Return what the scripts about one participant need."""
        return self.room(key[0]), self.gone(key), self.log, self.meta
