"""What every door has in its hand: the services, and the few things that doors share."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from controlplane.api.keys import ApiKeys
from controlplane.api.metrics import Metrics
from controlplane.core.addresses import IpNetwork
from controlplane.services.explaining import Explaining
from controlplane.services.fleet import Fleet
from controlplane.services.joins import Joins
from controlplane.services.planning import Planning
from controlplane.services.rooms import Rooms
from controlplane.services.topologies import Topologies, TopologyParser
from controlplane.store.base import Store


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The services behind the doors."""

    joins: Joins
    rooms: Rooms
    fleet: Fleet
    topologies: Topologies
    planning: Planning
    explaining: Explaining
    store: Store
    """Only its events are read here."""
    keys: ApiKeys
    metrics: Metrics
    parse_topology: TopologyParser
    """The one that `topologies` uses, which remembers: parsing takes up to a second, so doors do it in a thread
    before they call."""
    trusted_proxies: Sequence[IpNetwork] = ()
    open_metrics: bool = False
    """/metrics needs no API key."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process ends: streams end themselves."""
    event_streams: set[object] = field(default_factory=set)
    """The open streams of /v1/events, to bound their number."""
