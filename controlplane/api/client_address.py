"""Whose address a join is for: what the caller says, or a chain of proxies that is trusted hop by hop.

Only X-Forwarded-For is read. A proxy that appends to it hands on `Forwarded` (RFC 7239) as the client wrote it, so
reading both would let a client choose which of the two is believed.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from controlplane.core.addresses import parse_address
from guard.addresses import IpAddress, IpNetwork

MAX_HOPS = 32
"""Longer chains of trusted proxies are made up."""


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
    A hop that is no address ends the walk with None, an empty one too: whoever wrote it did not know the client,
    and left of it stands what the client says itself. The peer is never the answer: it is the signalling server,
    whose place says nothing about the participant's.
    """
    if vouched is not None:
        return _text(parse_address(vouched))
    if not _is_trusted(parse_address(peer or ""), trusted):
        return None
    address: IpAddress | None = None
    hops = _from_the_right(forwarded_for)
    for hop in islice(hops, MAX_HOPS):
        address = parse_address(_without_port(hop.strip()))
        if address is None or not _is_trusted(address, trusted):
            return _text(address)
    return _text(address) if next(hops, None) is None else None


def _from_the_right(lines: Sequence[str]) -> Iterator[str]:
    """Yield the entries of all header lines, which are one list (RFC 9110, 5.3), the last first."""
    for line in reversed(lines):
        yield from reversed(line.rsplit(",", MAX_HOPS))


def _text(address: IpAddress | None) -> str | None:
    return None if address is None else str(address)


def _is_trusted(address: IpAddress | None, trusted: Sequence[IpNetwork]) -> bool:
    return address is not None and any(address in network for network in trusted)


def _without_port(hop: str) -> str:
    """Return `192.0.2.1:4711` and `[2001:db8::1]:4711` without the port that some proxies append."""
    if hop.startswith("["):
        inside, _, port = hop[1:].partition("]")
        return inside if port[:1] in ("", ":") else hop
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
