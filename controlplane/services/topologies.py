"""The operators' topology: a bad one never replaces a good one, and nobody overwrites what they have not read."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from heapq import nsmallest

import structlog

from controlplane.core.model import ParticipantId, RegionId, RoomId, Topology
from controlplane.errors import InvalidInputError, PreconditionFailedError, UnavailableError
from controlplane.services.ports import Clock
from controlplane.store.base import Store, StoredTopology

log = structlog.get_logger(__name__)

TopologyParser = Callable[[str], Topology]
"""YAML text → Topology; raises InvalidInputError with file, line and column."""

MAX_DISPLACED = 200
"""Participants that a dry run names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class VersionedTopology:
    """What is in force."""

    version: int
    """The ETag; grows with each replacement."""
    text: str
    """The YAML as it was written."""
    topology: Topology


@dataclass(frozen=True, slots=True)
class Displaced:
    """A participant whose region would go."""

    room: RoomId
    participant: ParticipantId
    region: RegionId


@dataclass(frozen=True, slots=True)
class TopologyDiff:
    """What a replacement would do."""

    version: int
    """The version that it was compared with."""
    added: tuple[RegionId, ...]
    removed: tuple[RegionId, ...]
    changed: tuple[RegionId, ...]
    would_move: tuple[Displaced, ...]
    """At most MAX_DISPLACED of them."""
    would_move_total: int
    """All that were found."""


class Topologies:
    """Load, check, replace. The store has the truth; this keeps the parsed form of the last good version."""

    def __init__(self, store: Store, parser: TopologyParser, clock: Clock) -> None:
        self._store = store
        self._parse = parser
        self._clock = clock
        self._good: VersionedTopology | None = None
        self._refused = 0
        """Version of the last stored text that did not parse here; logged once."""

    async def load(self, text: str) -> VersionedTopology:
        """Put a file's text in force at start-up unless the store already has a topology, which then wins.

        Raises InvalidInputError from the parser.
        """
        self._parse(text)
        await self._store.put_topology(text, expect_version=0, now=self._clock.now())
        return await self.current()

    async def current(self) -> VersionedTopology:
        """Return what is in force. Raises UnavailableError ("no-topology") before `load`."""
        stored = await self._store.topology()
        if stored is not None and (self._good is None or stored.version != self._good.version):
            self._take(stored)
        if self._good is None:
            raise UnavailableError(
                "no-topology",
                "No topology is loaded, so no region is known.",
                "Start with --topology FILE, or PUT /v1/topology.",
            )
        return self._good

    async def replace(self, text: str, *, expect_version: int) -> VersionedTopology:
        """Put `text` in force.

        Raises InvalidInputError from the parser, PreconditionFailedError ("topology-stale").
        """
        topology = self._parse(text)
        version = await self._store.put_topology(
            text, expect_version=expect_version, now=self._clock.now()
        )
        if version is None:
            stored = await self._store.topology()
            raise stale(str(expect_version), stored.version if stored else 0)
        self._good = VersionedTopology(version, text, topology)
        log.info("topology replaced", version=version, regions=len(topology.regions))
        return self._good

    async def dry_run(self, text: str) -> TopologyDiff:
        """Return what `replace` would do; changes nothing. Raises InvalidInputError from the parser."""
        proposed = self._parse(text).regions
        current = await self.current()
        before = current.topology.regions
        removed = frozenset(before) - frozenset(proposed)
        displaced, total = await self._displaced(removed)
        return TopologyDiff(
            version=current.version,
            added=tuple(sorted(frozenset(proposed) - frozenset(before))),
            removed=tuple(sorted(removed)),
            changed=tuple(
                region
                for region in sorted(before)
                if region in proposed and before[region] != proposed[region]
            ),
            would_move=displaced,
            would_move_total=total,
        )

    def _take(self, stored: StoredTopology) -> None:
        """Parse a version that another replica stored; one that does not parse here changes nothing here."""
        if stored.version == self._refused:
            return
        try:
            topology = self._parse(stored.text)
        except InvalidInputError as error:
            self._refused = stored.version
            kept = self._good.version if self._good else None
            log.warning(
                "stored topology refused", version=stored.version, kept=kept, why=error.detail
            )
            return
        self._good = VersionedTopology(stored.version, stored.text, topology)

    async def _displaced(self, removed: frozenset[RegionId]) -> tuple[tuple[Displaced, ...], int]:
        """Return the first of those who sit in these regions, in order of room and participant, and how many there are.

        By node, and others go in between: room by room it would take as long as there are rooms, in one piece.
        """
        found: list[Displaced] = []
        for node in sorted(await self._store.nodes()) if removed else ():
            found += [
                Displaced(one.room, one.participant, one.region)
                for one in await self._store.assignments_on(node)
                if one.region in removed
            ]
            await asyncio.sleep(0)
        first = nsmallest(MAX_DISPLACED, found, key=lambda one: (one.room, one.participant))
        return tuple(first), len(found)


def stale(expected: str, version: int) -> PreconditionFailedError:
    """Return the error for a replacement of what is not in force (any more); `version` is."""
    return PreconditionFailedError(
        "topology-stale",
        f"The topology in force is version {version}, and not {expected}.",
        "Read it again, apply the change to what is there now, and send its new ETag.",
        extra={"version": version},
    )
