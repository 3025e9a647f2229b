"""IP addresses and networks as text, read in one way everywhere.

An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) is what a dual-stack socket makes of an IPv4 client: it counts as the
IPv4 address in it, or the same client would have two places, two networks and dodge an operator's rule.
"""

import ipaddress
from functools import lru_cache

from guard.addresses import IpAddress, IpNetwork

LONGEST = 64
"""Characters: no address is longer than the 45 of a mapped one; longer text is not even looked at."""

MAPPED_PREFIX = 96
"""Bits of ::ffff:0:0/96, before the IPv4 address begins."""


def parse_address(text: str) -> IpAddress | None:
    """Return an IP address, an IPv4-mapped one as IPv4; None for text that is none."""
    return _parse(text) if len(text) <= LONGEST else None


@lru_cache(maxsize=4096)
def _parse(text: str) -> IpAddress | None:
    """Read an address. Kept: whoever looks at a join does so by its client's address, and by that of the caller."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.scope_id is not None:
        return None  # a zone (RFC 4007) means something on the host that wrote it only
    return address.ipv4_mapped or address


def parse_network(text: str) -> IpNetwork:
    """Return a network, an IPv4-mapped one as IPv4. Raises ValueError, as ipaddress.ip_network does."""
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - MAPPED_PREFIX))
    return network
