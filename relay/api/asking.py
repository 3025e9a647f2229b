"""How often one address may ask for something that costs: a token to verify, an offer to answer."""

from collections.abc import Sequence

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from guard.addresses import IpAddress, IpNetwork
from guard.buckets import AddressBuckets
from relay.core.addresses import client_address, parse_address
from relay.errors import TooManyRequestsError
from relay.transport.clock import monotonic

REQUESTS_PER_S = 50.0
"""Of one address, for ever. Joining takes two, leaving two, a stream of slots one; a token takes 0.2 ms to verify."""

REQUEST_BURST = 1500
"""Three hundred clients at once behind one carrier-grade NAT, with five requests each."""

_FREE = frozenset({"/probe", "/healthz", "/readyz", "/metrics"})
"""Probes have a budget of their own; the others are asked by machines of the operator's."""


def request_address(request: web.Request, trusted: Sequence[IpNetwork]) -> IpAddress | None:
    """Return whom a request is from, behind proxies that are trusted."""
    peer = parse_address(request.remote or "")
    forwarded_for = request.headers.getall(hdrs.X_FORWARDED_FOR, ())
    return peer and client_address(peer, forwarded_for, trusted)


def limited(trusted: Sequence[IpNetwork]) -> Middleware:
    """Return a middleware that raises `TooManyRequestsError` (`too_many_requests`) beyond an address's budget."""
    budget = AddressBuckets(REQUESTS_PER_S, REQUEST_BURST)

    @web.middleware
    async def within_budget(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _FREE and not budget.passes(
            request_address(request, trusted), monotonic()
        ):
            raise TooManyRequestsError("too_many_requests", "too many requests from this address")
        return await handler(request)

    return within_budget
