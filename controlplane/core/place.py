"""Where a client is: the operators' overrides first, then the address database."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.core.addresses import parse_address
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
    """Return the override with the longest prefix that contains the address, whatever their order; None for none.

    An IPv4-mapped IPv6 address counts as the IPv4 address in it; a malformed one has no override.
    """
    address = parse_address(client_ip or "")
    if address is None:
        return None
    matching = [one for one in overrides if address in one.cidr]
    return max(matching, key=lambda one: (one.cidr.prefixlen, str(one.cidr)), default=None)
