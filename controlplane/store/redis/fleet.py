"""Nodes, links, drains, the topology, networks and replicas in Redis: hints, of which the last writer wins.

They take effect here at once and in Redis by and by, one write for all that changed since the last, except for what
operators want: that waits for Redis, and is refused without it.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from typing import Any
from zlib import crc32

from controlplane.core.learned import RttSample
from controlplane.core.model import (
    Drain,
    Node,
    NodeId,
    NodeState,
    RegionId,
    Replica,
    RoomId,
)
from controlplane.core.session import LinkFigures, LinkReport
from controlplane.errors import UnavailableError
from controlplane.store.base import MAX_JOIN_TOKENS, StoredTopology, out_of_reach, too_many_tokens
from controlplane.store.hints import Hints
from controlplane.store.links import LinkKey
from controlplane.store.redis.clock import RedisClock
from controlplane.store.redis.commit import Away, Reply, Value
from controlplane.store.redis.event_log import Fields
from controlplane.store.redis.names import LOG_LENGTH, Names
from controlplane.store.redis.scripts import Name
from controlplane.store.redis.shard import Shard

FLEET_LOG_LENGTH = 8192
"""Entries: a thousand nodes that report every 2 s fill it in 16 s."""

LEARNED_LOG_LENGTH = 5000
"""Entries of at most SAMPLES_EACH: what a replica that starts learns of before, 20 MB."""

SAMPLES_EACH = 50

MAX_HINTS = 50_000
"""Changes that wait for Redis, and samples; nodes and links change in place, so more of them there never are."""

FIELDS_AT_ONCE = 64
"""Fields that one script writes: it holds all others up for as long."""

HEARTBEAT_S = 0.5
"""How often a replica says that it is alive."""

REPLICA_DEAD_S = 3.0
"""Silence after which others take a replica's work over: five heartbeats that were lost, and a fail-over is shorter."""

FORGET_REPLICA_S = 3600.0
"""So long the slot of a silent replica is not given to another: it may be cut off and giving out epochs."""

FIRST_SLOT, LAST_SLOT = 16, 1023

Field = tuple[str, str]
"""Which hash, and which field of it."""


class Fleet:
    """What belongs to no room; all of it lies in the partition of `shard`."""

    def __init__(self, hints: Hints, shard: Shard, origin: str) -> None:
        self._hints = hints
        self._shard = shard
        self._clock = shard.clock
        self._origin = origin
        self._due: OrderedDict[Field, str] = OrderedDict()
        self._samples: list[tuple[str, str, float, str, float]] = []
        self._wake = asyncio.Event()
        self._target = ""
        # Each would like another one: when Redis has forgotten them all, two that ask at once should not get the same.
        self.slot = FIRST_SLOT + crc32(origin.encode()) % (LAST_SLOT - FIRST_SLOT + 1)
        self.replicas: dict[str, Replica] = {}
        self._takers: Mapping[str, Callable[[str, str], None]] = {
            "nodes": self._take_node,
            "drains": self._take_drain,
            "links": self._take_link,
            "topology": self._take_topology,
        }

    # --- what operators want ----------------------------------------------------------------------

    async def put_topology(self, text: str, *, expect_version: int, now: float) -> int | None:
        """See Store.put_topology."""
        version = expect_version + 1
        values = (await self._ask("The topology", self._topology(version, text, now))).values
        if values[0] != b"ok":
            self._take_topology(values[1].decode(), values[2].decode())
            return None
        self._take_topology(str(version), text)
        return version

    async def put_drain(self, node: NodeId, drain: Drain | None) -> None:
        """See Store.put_drain, and Store.drop_drain for None."""
        value = "" if drain is None else json.dumps(asdict(drain))
        await self._ask("A drain", self._hint("drains", [(node, value)]))
        self._take_drain(node, value)

    async def put_token(self, id_: str, digest: str, data: str, *, ttl_s: float) -> None:
        """See Store.put_join_token."""
        args = (id_, digest, data, round(ttl_s * 1000), MAX_JOIN_TOKENS)
        kept = await self._ask("A join token", self._call("put_token", [self._names.tokens], *args))
        if kept.values[0] != b"ok":
            raise too_many_tokens()

    async def take_token(self, id_: str, digest: str) -> str | None:
        """See Store.take_join_token."""
        asked = self._call("take_token", [self._names.tokens], id_, digest)
        values = (await self._ask("A join token", asked)).values
        return values[1].decode() if values[0] == b"taken" else None

    # --- hints ----------------------------------------------------------------------------------

    def put_node(self, node: Node) -> None:
        """See Store.put_node."""
        self._hints.put_node(node)
        self._add("nodes", node.id, _node_json(node, self._clock))

    def drop_node(self, node: NodeId) -> None:
        """See Store.drop_node."""
        for key in self._hints.links.of(node):
            self._add("links", _link_field(node, key), "")
        if node in self._hints.drains:
            self._add("drains", node, "")
        if node in self._hints.nodes:
            self._add("nodes", node, "")
        self._hints.drop_node(node)

    def put_links(self, node: NodeId, links: Sequence[LinkReport], figures: LinkFigures) -> None:
        """See Store.put_links: other replicas are told of states and tracks, not of each packet."""
        before = self._hints.links.say(node, links, figures)
        if before is None:
            return
        after = self._hints.links.of(node)
        for key, one in after.items():
            if before.get(key) != one:
                self._add("links", _link_field(node, key), json.dumps((one.state, one.tracks)))
        for key in before.keys() - after.keys():
            self._add("links", _link_field(node, key), "")

    def learn(self, samples: Sequence[RttSample], *, now: float) -> None:
        """See Store.learn."""
        for one in samples:
            # Who it was stays here; whether it was the same one, all can tell.
            who = f"{crc32(one.session.encode(errors='replace')):08x}"
            self._hints.learned.note(one.network, one.region, one.rtt_ms, session=who, now=now)
            if one.network and len(self._samples) < MAX_HINTS:
                self._samples.append((one.network, one.region, one.rtt_ms, who, now))
        self._wake.set()

    def rejoined(self) -> None:
        """Send what waits."""
        self._wake.set()

    # --- from Redis -----------------------------------------------------------------------------

    def take(self, entry: Fields) -> None:
        """Take in an entry of the fleet's log."""
        take = self._takers.get(entry[b"k"].decode())
        if take is not None and entry[b"o"].decode() != self._origin:
            take(entry[b"f"].decode(), entry[b"v"].decode())

    def take_samples(self, entry: Fields) -> None:
        """Take in an entry of the learned log."""
        if entry[b"o"].decode() != self._origin:
            for network, region, rtt, who, at in json.loads(entry[b"j"]):
                self._hints.learned.note(network, RegionId(region), rtt, session=who, now=at)

    async def load(self, *, same_data: bool) -> None:
        """Bring what Redis has and what is known here together."""
        await self.beat()
        names, client = self._names, self._shard.client
        found: dict[str, dict[str, str]] = {}
        for kind in ("nodes", "drains", "links"):
            raw = await client.hgetall(names.hash(kind))
            found[kind] = {field.decode(): value.decode() for field, value in raw.items()}
        stored = await client.hgetall(names.topology)
        if stored:
            self._take_topology(stored[b"version"].decode(), stored[b"text"].decode())
        await self._restore_topology(int(stored.get(b"version", 0)))
        for kind, values in found.items():
            for field, value in values.items():
                self._takers[kind](field, value)
        for node in self._hints.nodes.values():
            if node.id not in found["nodes"]:
                self._add("nodes", node.id, _node_json(node, self._clock))
        if not same_data:
            for id_, drain in self._hints.drains.items():
                self._add("drains", id_, json.dumps(asdict(drain)))
        else:
            for id_ in self._hints.drains.keys() - found["drains"].keys():
                del self._hints.drains[id_]

    async def load_samples(self) -> None:
        """Learn what sessions taught before this replica began."""
        last = b"-"
        while True:
            entries = await self._shard.client.xrange(self._names.learned, min=last, count=200)
            for _, entry in entries:
                self.take_samples(entry)
            if len(entries) < 200:
                return
            last = b"(" + entries[-1][0]

    # --- what is due ----------------------------------------------------------------------------

    async def send(self) -> None:
        """Send what is due, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (self._due or self._samples) and self._shard.is_up:
                try:
                    await self._send_some()
                except Away:
                    break

    async def _send_some(self) -> None:
        taken = [self._due.popitem(last=False) for _ in range(min(FIELDS_AT_ONCE, len(self._due)))]
        samples, self._samples = self._samples[:SAMPLES_EACH], self._samples[SAMPLES_EACH:]
        by_kind: dict[str, list[tuple[str, str]]] = {}
        for (kind, field), value in taken:
            by_kind.setdefault(kind, []).append((field, value))
        try:
            calls: list[Awaitable[Reply]] = [self._hint(*one) for one in by_kind.items()]
            if samples:
                keys = [self._names.learned, self._names.meta]
                text = json.dumps(samples)
                calls.append(self._call("learn", keys, self._origin, text, LEARNED_LOG_LENGTH))
            await asyncio.gather(*calls)
        except Away:
            for due, value in reversed(taken):
                self._due.setdefault(due, value)
                self._due.move_to_end(due, last=False)
            self._samples = samples + self._samples
            raise

    async def beat(self) -> None:
        """Say that this replica is alive, and hear who else is. Raises Away."""
        reply = await self._call(
            "replica", [self._names.replicas], self._origin, self._target, self.slot,
            FIRST_SLOT, LAST_SLOT, round(FORGET_REPLICA_S * 1000),
        )  # fmt: skip
        slot, now, *rest = reply.values
        if slot == b"0":
            raise UnavailableError(
                "too-many-replicas", f"There are {LAST_SLOT} replicas already.", "Stop some."
            )
        self.slot = int(slot)
        found: dict[str, Replica] = {}
        for id_, text in zip(rest[::2], rest[1::2], strict=True):
            _, heard, target = text.decode().split(" ", 2)
            if int(now) - int(heard) <= REPLICA_DEAD_S * 1000:
                name = id_.decode()
                found[name] = Replica(name, self._clock.to_local(int(heard)), target)
        self.replicas = found

    async def beat_on(self) -> None:
        """Say so at a rhythm, for ever. Without Redis those count as alive who were before."""
        while True:
            with suppress(Away):
                await self.beat()
            await asyncio.sleep(HEARTBEAT_S)

    async def announce(self, target: str) -> None:
        """See Store.announce."""
        self._target = target
        try:
            await self.beat()
        except Away:
            self.replicas[self._origin] = Replica(self._origin, self._clock.now(), target)

    # --- inside ---------------------------------------------------------------------------------

    async def _ask(self, what: str, asked: Awaitable[Reply]) -> Reply:
        try:
            return await asked
        except Away as away:
            raise out_of_reach(what) from away

    def _call(self, script: Name, keys: Sequence[str], *args: Value) -> Awaitable[Reply]:
        return self._shard.call(script, keys, *args)

    def _hint(self, kind: str, fields: Sequence[tuple[str, str]]) -> Awaitable[Reply]:
        names = self._names
        keys = (names.hash(kind), names.fleet_log, names.meta)
        flat = [text for pair in fields for text in pair]
        return self._call("hint", keys, self._origin, kind, FLEET_LOG_LENGTH, *flat)

    def _topology(self, version: int, text: str, now: float, mode: str = "") -> Awaitable[Reply]:
        names = self._names
        keys = (names.topology, names.fleet_log, names.meta, names.log)
        return self._call(
            "topology", keys, self._origin, version - 1, version, text, repr(now),
            FLEET_LOG_LENGTH, LOG_LENGTH, mode,
        )  # fmt: skip

    async def _restore_topology(self, stored: int) -> None:
        """Bring back a topology that Redis lost."""
        known = self._hints.topology
        if known is not None and known.version > stored:
            await self._topology(known.version, known.text, self._clock.now(), "restore")

    def _add(self, kind: str, field: str, value: str) -> None:
        if (kind, field) in self._due or len(self._due) < MAX_HINTS:
            self._due[kind, field] = value
        self._wake.set()

    def _take_topology(self, version: str, text: str) -> None:
        known = self._hints.topology
        if known is None or known.version < int(version):
            self._hints.topology = StoredTopology(int(version), text)

    def _take_node(self, field: str, value: str) -> None:
        node = NodeId(field)
        if not value:
            self._hints.drop_node(node)
            return
        found = _node(json.loads(value), self._clock)
        known = self._hints.nodes.get(node)
        if known is None or known.heard_at <= found.heard_at or found.replica != self._origin:
            self._hints.put_node(found)

    def _take_drain(self, field: str, value: str) -> None:
        if value:
            self._hints.drains[NodeId(field)] = Drain(**json.loads(value))
        else:
            self._hints.drains.pop(NodeId(field), None)

    def _take_link(self, field: str, value: str) -> None:
        node, room, to = field.split("/")
        key, report = (RoomId(room), NodeId(to)), None
        if value:
            state, tracks = json.loads(value)
            report = LinkReport(*key, state, tuple(tracks))
        self._hints.links.tell(NodeId(node), key, report)

    @property
    def _names(self) -> Names:
        return self._shard.names


def _node_json(node: Node, clock: RedisClock) -> str:
    """Return a node as text; when it was heard, by Redis' clock."""
    return json.dumps({**asdict(node), "heard_at": clock.to_redis_ms(node.heard_at)})


def _node(found: dict[str, Any], clock: RedisClock) -> Node:
    """Return the node; fields that a newer release added are left out."""
    known = {field.name for field in fields(Node)}
    node = Node(**{name: value for name, value in found.items() if name in known})
    return replace(
        node, heard_at=clock.to_local(found["heard_at"]), state=NodeState(found["state"])
    )


def _link_field(node: NodeId, link: LinkKey) -> str:
    room, to = link
    return f"{node}/{room}/{to}"
