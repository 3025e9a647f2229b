"""GET /probe: a round trip for browsers, as little as HTTP allows, and so much of it for each address."""

from collections.abc import Sequence

import structlog
from aiohttp import hdrs, web

from guard.addresses import IpNetwork
from guard.buckets import AddressBuckets
from relay.api.asking import request_address
from relay.core.addresses import parse_address
from relay.errors import TooManyRequestsError
from relay.transport.clock import monotonic

PROBES_PER_S = 50.0
"""Ten clients a second, for ever, from behind one address: a joining client sends a node five requests, one that opens
the connection and four that are timed. It costs less than a hundredth of a core."""

PROBE_BURST = 1500
"""Three hundred clients at once: all behind one carrier-grade NAT, or in one lecture hall, when the hour strikes."""

log = structlog.get_logger("relay.probes")


class Probes:
    """The door for measurements. `trusted` are the proxies whose X-Forwarded-For counts."""

    def __init__(self, trusted: Sequence[IpNetwork] = ()) -> None:
        self.answered = 0
        self.limited = 0
        self.trusted = trusted
        self._budget = AddressBuckets(PROBES_PER_S, PROBE_BURST)
        self._told = False

    async def get(self, request: web.Request) -> web.Response:
        """Answer with nothing. Raises `TooManyRequestsError` (`too_many_probes`) beyond the limit."""
        forwarded_for = request.headers.getall(hdrs.X_FORWARDED_FOR, ())
        peer = parse_address(request.remote or "")
        address = request_address(request, self.trusted)
        if not self._budget.passes(address, monotonic()):
            self.limited += 1
            if forwarded_for and address == peer and not self._told:
                self._told = True
                log.warning(
                    "a proxy's probes are limited as one client's: --trusted-proxy tells them apart",
                    proxy=str(peer),
                )
            raise TooManyRequestsError("too_many_probes", "too many probes from this address")
        self.answered += 1
        return web.Response(
            status=204, headers={hdrs.CACHE_CONTROL: "no-store", "Timing-Allow-Origin": "*"}
        )
