"""Prometheus names of a node, in one place. No series per room, participant or peer: their number is fixed.

Everything is read when somebody asks, from counters that the parts keep anyway.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from guard.connections import Connections
from relay.api.probes import Probes
from relay.api.state import NodeState
from relay.api.turn_metrics import turn_metrics
from relay.core.rooms import Rooms
from relay.engines.base import MediaEngine
from relay.engines.embedded.port import Port
from relay.transport.clock import monotonic, wall
from relay.transport.tls import LiveTls
from relay.trunk.manager import TrunkManager
from relay.trunk.model import TrunkState
from relay.turn.server import TurnServer

LAG_INTERVAL_S = 0.1
"""Between two looks at the event loop."""

LAG_DECAY = 0.9
"""Of the worst lag with each look: a stall of 1 s is still seen as 0.35 s a second later, and gone after five."""


class LoopLag:
    """How late the event loop is: what every forwarded packet waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            before = monotonic()
            await asyncio.sleep(LAG_INTERVAL_S)
            late = monotonic() - before - LAG_INTERVAL_S
            self.seconds = max(late, self.seconds * LAG_DECAY)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from."""

    state: NodeState
    engine: MediaEngine
    port: Port
    probes: Probes
    rooms: Rooms
    trunks: TrunkManager
    lag: LoopLag
    connections: Connections
    tls: LiveTls
    turn: TurnServer | None = None


class Metrics(Collector):
    """The node's own registry."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now (Collector)."""
        yield from self._present()
        yield from self._datagrams()
        yield from self._probes()
        yield from self._connections()
        yield from self._trunks()
        if self._sources.turn is not None:
            yield from turn_metrics(self._sources.turn)
        yield GaugeMetricFamily(
            "relay_certificate_expires_seconds",
            "Time until this node's certificate ends.",
            value=self._sources.tls.names.ends_at - wall(),
        )
        yield GaugeMetricFamily(
            "relay_loop_lag_seconds",
            "How late the event loop was lately, the worst of about a second.",
            value=self._sources.lag.seconds,
        )

    def _present(self) -> Iterator[Metric]:
        sources = self._sources
        present = sources.engine.participants()
        yield GaugeMetricFamily(
            "relay_participants", "Participants on this node.", value=len(present)
        )
        yield GaugeMetricFamily(
            "relay_capacity", "Participants that it takes at most.", value=sources.state.capacity
        )
        yield GaugeMetricFamily(
            "relay_ready",
            "1 while it takes traffic, 0 while it starts, stops or drains.",
            value=sources.state.not_ready is None and not sources.state.draining,
        )
        yield GaugeMetricFamily(
            "relay_slots", "Slots of subscribers.", value=sum(one.slots for one in present)
        )
        tracks = GaugeMetricFamily(
            "relay_tracks", "Tracks, published here or brought by a trunk.", labels=["from"]
        )
        hops = [track.info.hops for track in sources.rooms.all()]
        tracks.add_metric(["client"], sum(hop == 0 for hop in hops))
        tracks.add_metric(["trunk"], sum(hop > 0 for hop in hops))
        yield tracks

    def _datagrams(self) -> Iterator[Metric]:
        port, trunks = self._sources.port.counters, self._sources.trunks.socket.counters
        passed = CounterMetricFamily(
            "relay_datagrams", "UDP datagrams by hop and direction.", labels=["hop", "direction"]
        )
        passed.add_metric(["client", "in"], port.received)
        passed.add_metric(["client", "out"], port.sent)
        passed.add_metric(["trunk", "in"], trunks.received)
        passed.add_metric(["trunk", "out"], trunks.sent)
        yield passed
        dropped = CounterMetricFamily(
            "relay_dropped_datagrams",
            "Datagrams that were nobody's; unqueued: by the kernel, for us.",
            labels=["hop", "reason"],
        )
        dropped.add_metric(["client", "unqueued"], self._sources.port.unqueued)
        dropped.add_metric(["client", "stray"], port.stray)
        dropped.add_metric(["client", "limited"], port.checks_limited)
        dropped.add_metric(["client", "rejected"], self._sources.port.rejected)
        dropped.add_metric(["trunk", "unqueued"], self._sources.trunks.socket.unqueued)
        dropped.add_metric(["trunk", "stray"], trunks.stray)
        dropped.add_metric(["trunk", "forged"], trunks.forged)
        dropped.add_metric(["trunk", "unsendable"], trunks.unsendable)
        yield dropped

    def _connections(self) -> Iterator[Metric]:
        connections = self._sources.connections
        yield GaugeMetricFamily(
            "relay_http_connections", "Open HTTP connections.", value=len(connections)
        )
        closed = CounterMetricFamily(
            "relay_http_connections_closed",
            "HTTP connections closed for their number or slowness.",
            labels=["reason"],
        )
        for reason in ("refused", "cut", "evicted"):
            closed.add_metric([reason], getattr(connections.counters, reason))
        yield closed

    def _probes(self) -> Iterator[Metric]:
        http, stun = self._sources.probes, self._sources.port.counters
        probes = CounterMetricFamily(
            "relay_probes",
            "Round-trip measurements that were asked for, by door; limited: by the address's budget.",
            labels=["door", "result"],
        )
        probes.add_metric(["http", "answered"], http.answered)
        probes.add_metric(["http", "limited"], http.limited)
        probes.add_metric(["stun", "answered"], stun.probes_answered)
        probes.add_metric(["stun", "limited"], stun.probes_limited)
        yield probes

    def _trunks(self) -> Iterator[Metric]:
        trunks = self._sources.trunks
        counters = trunks.socket.counters
        packets = CounterMetricFamily(
            "relay_rtp_packets", "RTP packets by hop and direction.", labels=["hop", "direction"]
        )
        packets.add_metric(["trunk", "in"], counters.rtp_received)
        packets.add_metric(["trunk", "out"], counters.rtp_sent)
        yield packets
        repaired = CounterMetricFamily(
            "relay_repaired",
            "RTP packets that were lost and sent again: in, asked for by this node; out, by the other.",
            labels=["hop", "direction"],
        )
        repaired.add_metric(["trunk", "in"], counters.repaired)
        repaired.add_metric(["trunk", "out"], counters.resent)
        yield repaired
        given_up = CounterMetricFamily(
            "relay_given_up",
            "RTP packets that never came, by the hop that lost them.",
            labels=["hop"],
        )
        given_up.add_metric(["client"], self._sources.rooms.given_up(from_trunks=False))
        given_up.add_metric(["trunk"], self._sources.rooms.given_up(from_trunks=True))
        yield given_up
        states = GaugeMetricFamily("relay_trunks", "Trunks by state.", labels=["state"])
        known = trunks.states()
        for state in TrunkState:
            states.add_metric([state.value], known.get(state, 0))
        yield states
