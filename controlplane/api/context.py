"""What every door has in its hand: the services, and the few things that doors share."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from controlplane.api.audit import Audit
from controlplane.api.callers import Callers
from controlplane.api.metrics import Metrics
from controlplane.api.overload import Overload
from controlplane.api.repeats import Repeats
from controlplane.services.enrolment import Enrolment
from controlplane.services.explaining import Explaining
from controlplane.services.fleet import Fleet
from controlplane.services.joins import Joins
from controlplane.services.planning import Planning
from controlplane.services.ports import Clock
from controlplane.services.rooms import Rooms
from controlplane.services.topologies import Topologies, TopologyParser
from controlplane.store.base import Store
from guard.addresses import IpNetwork


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The services behind the doors."""

    joins: Joins
    rooms: Rooms
    fleet: Fleet
    topologies: Topologies
    planning: Planning
    explaining: Explaining
    enrolment: Enrolment
    store: Store
    """Only its events are read here."""
    callers: Callers
    audit: Audit
    clock: Clock
    metrics: Metrics
    overload: Overload
    repeats: Repeats
    parse_topology: TopologyParser
    """The one that `topologies` uses, which remembers: parsing takes up to a second, so doors do it in a thread
    before they call."""
    trusted_proxies: Sequence[IpNetwork] = ()
    open_metrics: bool = False
    """/metrics needs no API key."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process ends: streams end themselves."""
    event_streams: Counter[str] = field(default_factory=Counter)
    """How many streams of /v1/events each tenant has open, to bound them."""
