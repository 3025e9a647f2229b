"""Prometheus names, in one place. No series per room, participant or caller: the number of series is fixed."""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from controlplane.core.model import Node, NodeState
from controlplane.store.base import StoreHealth, Totals
from guard.connections import Connections

DECISION_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""In memory a join takes a millisecond, over Redis a few; 0.5 s is where its operations give up."""


class Metrics:
    """The control plane's own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.joins = Counter(
            "thalweg_joins", "Joins by result: created, repeated, or the problem's code.",
            ["result"], registry=registry,
        )  # fmt: skip
        self.repeats = self.joins.labels("repeated")
        """To look it up each time would be a seventieth of a repeat's cost."""
        self.decision_seconds = Histogram(
            "thalweg_decision_seconds", "Time from a valid join to its answer, in seconds.",
            buckets=DECISION_BUCKETS, registry=registry,
        )  # fmt: skip
        self._nodes = Gauge("thalweg_nodes", "Nodes by state.", ["state"], registry=registry)
        self._participants = Gauge(
            "thalweg_participants", "Participants with an assignment.", registry=registry
        )
        self._rooms = Gauge("thalweg_rooms", "Rooms with a participant.", registry=registry)
        self.node_sessions = Gauge(
            "thalweg_node_sessions", "Session streams of nodes to this process.", registry=registry
        )
        self.node_standbys = Gauge(
            "thalweg_node_standbys", "Warm Session streams of nodes to this process.", registry=registry
        )  # fmt: skip
        self.fleet_frozen = Gauge(
            "thalweg_fleet_frozen", "1 while nobody is declared lost and nobody moved.", registry=registry
        )  # fmt: skip
        self.snapshots = Counter(
            "thalweg_snapshots", "Snapshots sent, and answers: acked, nacked, unknown (to none that waits).",
            ["result"], registry=registry,
        )  # fmt: skip
        self.rehomes = Counter(
            "thalweg_rehomes", "People who were moved for a better place.", registry=registry
        )
        self.rooms_looked_at = Counter(
            "thalweg_rehoming_rooms_looked_at", "Rooms that changed and were planned anew.",
            registry=registry,
        )  # fmt: skip
        self.rooms_dropped = Counter(
            "thalweg_rehoming_rooms_dropped", "Rooms that changed while too many were waiting to be planned.",
            registry=registry,
        )  # fmt: skip
        self._networks = Gauge(
            "thalweg_learned_networks", "Client networks whose round trips are known from calls.",
            registry=registry,
        )  # fmt: skip
        self._events = Gauge(
            "thalweg_events", "Events since this process began, of all replicas.", registry=registry
        )
        self._degraded = Gauge(
            "thalweg_store_degraded", "1 while the state that replicas share is out of reach.",
            registry=registry,
        )  # fmt: skip
        self._pending = Gauge(
            "thalweg_store_pending", "Changes that the other replicas cannot know yet.",
            registry=registry,
        )  # fmt: skip
        self.event_streams = Gauge(
            "thalweg_event_streams", "Open streams of /v1/events.", registry=registry
        )
        self.broken_files = Gauge(
            "thalweg_broken_files", "1 for a flag whose file is not in force as it stands, because it is broken.",
            ["flag"], registry=registry,
        )  # fmt: skip
        self.certificate_expires = Gauge(
            "thalweg_certificate_expires_seconds", "Time until the process's own certificate ends.",
            registry=registry,
        )  # fmt: skip
        for result in ("sent", "acked", "nacked", "unknown"):
            self.snapshots.labels(result)

    def watch_connections(self, connections: Connections) -> None:
        """Show what the HTTP door's connections do."""
        Gauge(
            "thalweg_http_connections", "Open connections to the HTTP door.", registry=self.registry
        ).set_function(lambda: len(connections))
        closed = Gauge(
            "thalweg_http_connections_closed", "Connections closed for their number or slowness, since the start.",
            ["reason"], registry=self.registry,
        )  # fmt: skip
        counters = connections.counters
        closed.labels("refused").set_function(lambda: counters.refused)
        closed.labels("cut").set_function(lambda: counters.cut)
        closed.labels("evicted").set_function(lambda: counters.evicted)

    def expose(self, nodes: Iterable[Node], totals: Totals, health: StoreHealth) -> bytes:
        """Return everything in Prometheus' text format, with the gauges set from what is true now."""
        tally = Tally(node.state for node in nodes)
        for state in NodeState:
            self._nodes.labels(state.value).set(tally[state])
        self._rooms.set(totals.rooms)
        self._participants.set(totals.assignments)
        self._networks.set(totals.networks)
        self._events.set(totals.events)
        self._degraded.set(health.mode == "degraded")
        self._pending.set(health.pending)
        return generate_latest(self.registry)
