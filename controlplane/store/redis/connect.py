"""Ways to Redis: one server, Sentinel, Cluster. Each finds the master of a partition, and says which life of it it is.

What a stale Sentinel or cluster node says must not win: all are asked, and the highest config epoch counts.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from controlplane.store.redis.target import Address, Target

CONNECT_TIMEOUT_S = 0.3
OPERATION_TIMEOUT_S = 0.35
"""A join is answered within a second. When a server falls silent, those that waited for it, hundreds at once, are
answered from memory in the rest."""

SOCKET_TIMEOUT_S = 2.0
"""The client's own limit for an answer, behind ours: it applies to what is loaded in large pieces."""

LINK_TIMEOUT_S = 0.4
"""To connect and ask who it is. A frozen master is connected to and never answers; each try is time without one."""

MAX_CONNECTIONS = 64
"""Per server: a writer and a reader for each partition, and what is loaded meanwhile."""

CLUSTER_PARTITIONS = 16
"""Hash slots that a deployment uses in Redis Cluster: enough for 16 masters, few enough to read 40 times a second."""

FAILURES = (RedisError, OSError, TimeoutError)
"""What a server that is away raises."""


def tag(partition: int) -> str:
    """Return the hash tag of a partition: all its keys lie in one slot."""
    return f"{{tw:{partition}}}"


@dataclass(frozen=True, slots=True)
class Link:
    """A master that answered."""

    client: Redis = field(repr=False)
    run_id: str
    """Another one after a restart and after a fail-over."""
    generation: int = 0
    """The config epoch: grows with each fail-over."""
    acks: int = 0
    """Replicas that have to confirm a write, 0 for a server that has none yet."""


class Connector(Protocol):
    """Finds masters."""

    @property
    def partitions(self) -> int:
        """How many parts the rooms are divided into."""
        ...

    async def connect(self, partition: int) -> Link:
        """Return the partition's master. Raises what FAILURES has."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def connector_of(target: Target) -> Connector:
    """Return the way to a target."""
    clients = Clients(target)
    if target.kind == "sentinel":
        return SentinelConnector(target, clients)
    return (
        ClusterConnector(target, clients) if target.kind == "cluster" else Single(target, clients)
    )


class Clients:
    """One client for each address."""

    def __init__(self, target: Target) -> None:
        self._options: dict[str, Any] = {"db": target.db}
        if target.password is not None:
            self._options |= {"username": target.username, "password": target.password}
        self._sentinel_password = target.sentinel_password
        if target.tls:
            self._options["ssl"] = True
            self._options["ssl_ca_certs"] = str(target.ca) if target.ca else None
        self._open: dict[tuple[Address, bool], Redis] = {}

    def at(self, address: Address, *, sentinel: bool = False) -> Redis:
        """Return the client of an address."""
        client = self._open.get((address, sentinel))
        if client is None:
            options = dict(self._options)
            if sentinel:
                options |= {"db": 0, "username": None, "password": self._sentinel_password}
            client = self._open[address, sentinel] = Redis(
                host=address[0],
                port=address[1],
                socket_timeout=SOCKET_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                # What fails is answered from memory; whether to try again is decided there.
                retry=Retry(NoBackoff(), 0),
                max_connections=MAX_CONNECTIONS,
                protocol=2,
                # It would read the package's version from the disk for every connection.
                driver_info=None,
                **options,
            )
        return client

    async def link(self, address: Address, *, generation: int = 0, replicas: int = 0) -> Link:
        """Return a link to a master. Raises what FAILURES has, and ConnectionError if it is none."""
        client = self.at(address)
        async with asyncio.timeout(LINK_TIMEOUT_S):
            server, replication = await asyncio.gather(
                client.info("server"), client.info("replication")
            )
        if replication["role"] != "master":
            raise ConnectionError(f"{address[0]}:{address[1]} is no master now")
        has_replicas = replicas or replication["connected_slaves"]
        return Link(client, server["run_id"], generation, 1 if has_replicas else 0)

    async def close(self) -> None:
        """Close all of them."""
        for client in self._open.values():
            await client.aclose()


class Single:
    """One server."""

    partitions = 1

    def __init__(self, target: Target, clients: Clients) -> None:
        self._address = target.hosts[0]
        self._clients = clients

    async def connect(self, partition: int) -> Link:  # noqa: ARG002  there is one
        """See Connector.connect."""
        return await self._clients.link(self._address)

    async def close(self) -> None:
        """See Connector.close."""
        await self._clients.close()


class SentinelConnector:
    """A master that Sentinels watch."""

    partitions = 1

    def __init__(self, target: Target, clients: Clients) -> None:
        self._name = target.master
        self._sentinels = target.hosts
        self._clients = clients
        self._replicas = 0

    async def connect(self, partition: int) -> Link:  # noqa: ARG002  there is one
        """See Connector.connect."""
        states, why_not = await _answers(self._ask(one) for one in self._sentinels)
        if not states:
            raise ConnectionError(f"no Sentinel says where {self._name} is: {why_not}")
        newest = max(states, key=lambda one: int(one["config-epoch"]))
        address = (newest["ip"], int(newest["port"]))
        if newest["is_odown"]:
            if newest["leads-to"] == address:
                # Trying it all the same would take as long as the next look at whether there is another.
                raise ConnectionError(f"Sentinel says that {self._name} is down")
            address = newest["leads-to"]
        # A replica that is cut off is still one that has to confirm: or the writes to a master that is cut off itself
        # would count as safe.
        self._replicas = max(self._replicas, int(newest["num-slaves"]))
        return await self._clients.link(
            address, generation=int(newest["config-epoch"]), replicas=self._replicas
        )

    async def _ask(self, sentinel: Address) -> Mapping[str, Any]:
        """Return what a Sentinel says of the master, and where it leads clients.

        The Sentinel that leads a fail-over does so to the new master at once, but calls the old one the master, and
        down, until all replicas follow the new one: seconds, if one does not answer. Asked in this order, the epoch is
        no older than the address.
        """
        client = self._clients.at(sentinel, sentinel=True)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            leads_to = await client.sentinel_get_master_addr_by_name(self._name)
            state = await client.sentinel_master(self._name)
        return {**cast("Mapping[str, Any]", state), "leads-to": leads_to}

    async def close(self) -> None:
        """See Connector.close."""
        await self._clients.close()


class ClusterConnector:
    """Masters that share the slots."""

    partitions = CLUSTER_PARTITIONS

    def __init__(self, target: Target, clients: Clients) -> None:
        self._known = set(target.hosts)
        self._clients = clients

    async def connect(self, partition: int) -> Link:
        """See Connector.connect."""
        slot = key_slot(tag(partition).encode())
        masters: list[tuple[int, Address, int]] = []
        answers, why_not = await _answers(self._ask(one) for one in sorted(self._known))
        for nodes in answers:
            self._known |= {_cluster_address(one) for one in nodes}
            for text, node in nodes.items():
                if any(int(first) <= slot <= int(last) for first, last in _ranges(node)):
                    replicas = sum(one["master_id"] == node["node_id"] for one in nodes.values())
                    masters.append((int(node["epoch"]), _cluster_address(text), replicas))
        if not masters:
            raise ConnectionError(f"no cluster node says who has slot {slot}: {why_not}")
        generation, address, replicas = max(masters)
        return await self._clients.link(address, generation=generation, replicas=replicas)

    async def _ask(self, address: Address) -> Mapping[str, Any]:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return cast("Mapping[str, Any]", await self._clients.at(address).cluster("NODES"))

    async def close(self) -> None:
        """See Connector.close."""
        await self._clients.close()


def _cluster_address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _ranges(node: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    return [(one[0], one[-1]) for one in node["slots"]] if "master" in node["flags"] else []


async def _answers(questions: Iterable[Any]) -> tuple[list[Mapping[str, Any]], str]:
    """Return the answers of those who gave one, and why one of the others did not."""
    found = await asyncio.gather(*questions, return_exceptions=True)
    failures = [str(one) or type(one).__name__ for one in found if isinstance(one, BaseException)]
    return (
        [one for one in found if not isinstance(one, BaseException)],
        failures[0] if failures else "all answered something else",
    )
