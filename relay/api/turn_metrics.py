"""Prometheus names of the TURN server beside a node."""

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from relay.turn.server import TurnServer


def turn_metrics(turn: TurnServer) -> Iterator[Metric]:
    """Yield every metric as it is now."""
    status = turn.status
    yield GaugeMetricFamily(
        "relay_turn_answering",
        "1 while the TURN server answers on its port.",
        value=status.answering,
    )
    yield GaugeMetricFamily(
        "relay_turn_in_order",
        "1 while its files are as the control plane wants them; the log says what is wrong.",
        value=not status.problem,
    )
    yield GaugeMetricFamily(
        "relay_turn_secrets", "Secrets that it accepts now.", value=status.secrets
    )
    yield GaugeMetricFamily(
        "relay_turn_peers", "Addresses that it relays to, and to no others.", value=status.peers
    )
    yield GaugeMetricFamily(
        "relay_turn_synced_timestamp_seconds",
        "When its database last was as it should be, since 1970.",
        value=status.synced_at,
    )
    yield GaugeMetricFamily(
        "relay_turn_known_holes",
        "Published faults of the installed coturn that no configuration closes.",
        value=status.known_holes,
    )
    yield CounterMetricFamily(
        "relay_turn_starts",
        "How often it was started by this node.",
        value=turn.process.starts,
    )
