"""By what callers are told apart: the address of a connection or datagram."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network


def network_of(address: IpAddress | None) -> bytes:
    """Return what one subscriber has, as a key: an IPv4 address, or the /64 of an IPv6 one (RFC 6177).

    All whose address is unknown are one subscriber.
    """
    if address is None:
        return b""
    return address.packed if address.version == 4 else address.packed[:8]
