"""TURN orders off the wire: what stands in coturn's files is checked here."""

import ipaddress
import re

from thalweg.v1 import node_pb2

from relay.turn.model import Listener, Secret, TurnOrders

MAX_SECRETS = 64
MAX_PEERS = 10_000
MAX_LISTENERS = 16
"""Bounds on one snapshot; a region has a handful, a few hundred, one or two."""

_REALM = re.compile(r"[A-Za-z0-9._-]{1,127}")
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{16,127}")
"""What fits coturn's column and any configuration file."""


def turn_from_wire(orders: node_pb2.TurnOrders) -> TurnOrders:
    """Return the orders for a TURN server. Raises ValueError, without repeating a secret."""
    for what, found, most in (
        ("secrets", len(orders.secrets), MAX_SECRETS),
        ("peers", len(orders.peers), MAX_PEERS),
        ("listeners", len(orders.listeners), MAX_LISTENERS),
    ):
        if found > most:
            raise ValueError(f"{found} TURN {what} are too many: {most} fit")
    if not _REALM.fullmatch(orders.realm):
        raise ValueError(f"{orders.realm[:63]!r} is no TURN realm")
    if not all(_SECRET.fullmatch(secret.value) for secret in orders.secrets):
        raise ValueError("a TURN secret has an odd length or odd characters")
    return TurnOrders(
        realm=orders.realm,
        secrets=tuple(Secret(one.value, one.not_after) for one in orders.secrets),
        peers=tuple(str(ipaddress.ip_address(peer)) for peer in orders.peers),
        listeners=tuple(_listener(one) for one in orders.listeners),
        transports=frozenset(orders.transports),
    )


def _listener(listener: node_pb2.TurnListener) -> Listener:
    if not (1 <= listener.port <= 65535 and 1 <= listener.tls_port <= 65535):
        raise ValueError(f"{listener.port} and {listener.tls_port} are no ports of a TURN server")
    return Listener(listener.host, listener.port, listener.tls_port)
