"""Whose a request is: by the connection, or by a chain of proxies that is trusted hop by hop."""

import ipaddress
from collections.abc import Sequence

from guard.addresses import IpAddress, IpNetwork

MAX_HOPS = 32
"""Longer X-Forwarded-For chains are made up."""

_LONGEST = len("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535")


def parse_address(text: str) -> IpAddress | None:
    """Return the address, an IPv4-mapped one (RFC 4291, section 2.5.5.2) as IPv4; None for anything else."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def client_address(
    peer: IpAddress, forwarded_for: Sequence[str], trusted: Sequence[IpNetwork]
) -> IpAddress:
    """Return the nearest address that is not a trusted proxy's.

    `peer` is the connection's other end and `forwarded_for` has one string per X-Forwarded-For header. The chain is
    walked from the right, because everything left of the first stranger can be forged; what is no address ends it.
    """
    address = peer
    hops = [hop for line in forwarded_for for hop in line.split(",")]
    for hop in reversed(hops[-MAX_HOPS:]):
        if not any(address in network for network in trusted):
            break
        before = parse_address(_without_port(hop.strip()[:_LONGEST]))
        if before is None:
            break
        address = before
    return address


def _without_port(hop: str) -> str:
    """Return `192.0.2.1:4711` and `[2001:db8::1]:4711` without the port that some proxies append."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
