"""Whose address a join is for: what the caller says, or a chain of proxies that is trusted hop by hop."""

import ipaddress
from collections.abc import Sequence

from controlplane.adapters.geoip import IpAddress, parse_address

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS = 32
"""Longer X-Forwarded-For chains are made up."""


def client_address(
    *,
    vouched: str | None,
    peer: str | None,
    forwarded_for: Sequence[str],
    trusted: Sequence[IpNetwork],
) -> str | None:
    """Return the client's address, IPv4-mapped ones as IPv4, or None if nobody credible says it.

    `vouched` is `client_ip` of the body: the caller has an API key, so it wins. Otherwise X-Forwarded-For
    (`forwarded_for`: one string per header line) counts if the connection's other end, `peer`, is a trusted
    proxy. It is walked from the right, because everything left of the last trusted hop can be forged: the first
    address that is not a trusted proxy is the client. A chain of trusted proxies only ends at its first entry.
    A hop that is no address ends the walk with None. The peer itself is never the answer: it is the signalling
    server, whose place says nothing about the participant's.
    """
    if vouched is not None:
        return _text(parse_address(vouched))
    if not _is_trusted(parse_address(peer or ""), trusted):
        return None
    hops = [hop for line in forwarded_for for hop in line.split(",")]
    address: IpAddress | None = None
    for hop in reversed(hops[-MAX_HOPS:]):
        address = parse_address(_without_port(hop.strip()))
        if address is None or not _is_trusted(address, trusted):
            break
    return _text(address)


def _text(address: IpAddress | None) -> str | None:
    return None if address is None else str(address)


def _is_trusted(address: IpAddress | None, trusted: Sequence[IpNetwork]) -> bool:
    return address is not None and any(address in network for network in trusted)


def _without_port(hop: str) -> str:
    """Return `192.0.2.1:4711` and `[2001:db8::1]:4711` without the port that some proxies append."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
