"""Where a client is: the operators' overrides first, then the address database."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from controlplane.core.model import Location, Override, RegionId, Topology


@dataclass(frozen=True, slots=True)
class Place:
    """What is believed of a client's whereabouts, and on whose word."""

    location: Location | None = None
    source: str = "unknown"
    """"override", "geo" or "unknown"."""
    region: RegionId | None = None
    """The region that an override names."""


NOWHERE = Place()


def find_place(client_ip: str | None, located: Location | None, topology: Topology) -> Place:
    """Return the place of a client; `located` is what the address database answered for `client_ip`."""
    override = override_for(client_ip, topology.overrides)
    region = topology.regions.get(override.region) if override else None
    if region is not None:
        return Place(region.location, "override", region.id)
    return NOWHERE if located is None else Place(located, "geo")


def override_for(client_ip: str | None, overrides: Sequence[Override]) -> Override | None:
    """Return the override with the longest prefix that contains the address; None for a malformed one.

    An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) counts as the IPv4 address in it.
    """
    if not client_ip or not overrides:
        return None
    try:
        address = ip_address(client_ip)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    matching = [one for one in overrides if address in one.cidr]
    return max(matching, key=lambda one: (one.cidr.prefixlen, str(one.cidr)), default=None)
