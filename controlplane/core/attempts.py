"""How often somebody may try: a token bucket for each IPv4 address and each /64 of IPv6."""

from ipaddress import IPv4Address, IPv6Network

from controlplane.core.addresses import parse_address
from controlplane.core.bucket import Buckets

MAX_SOURCES = 10_000
"""Sources that are kept, about 2 MB."""


class Attempts:
    """Lets each source try `burst` times at once and `per_minute` on average."""

    def __init__(self, *, per_minute: float, burst: int, most: int = MAX_SOURCES) -> None:
        self._buckets = Buckets[str](per_minute / 60, burst, most)

    def __len__(self) -> int:
        """Return how many sources are kept."""
        return len(self._buckets)

    def take(self, address: str | None, now: float) -> bool:
        """Return whether one more attempt passes at `now`; all whose address is unknown are one source."""
        return self._buckets.take(_source(address), now) == 0


def _source(address: str | None) -> str:
    parsed = parse_address(address or "")
    if parsed is None:
        return ""
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((parsed, 64), strict=False))
