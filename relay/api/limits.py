"""How many connections the HTTP door takes; what each of them may hold is in guard/connections.py."""

from functools import partial

from guard import connections
from relay.core.addresses import parse_address

MAX_CONNECTIONS = 8192
"""In all. A client that measures or joins needs two or three for seconds, a slot stream one for a call."""

MAX_PER_ADDRESS = 2048
"""Of one IPv4 address or /64 of IPv6: hundreds of clients behind one NAT. Trusted proxies may have all."""

limited_connections = partial(
    connections.Connections,
    parse=parse_address,
    most=MAX_CONNECTIONS,
    per_address=MAX_PER_ADDRESS,
)

limited_runner = partial(connections.limited_runner, cancels=True)
"""A browser that closes a slot stream ends its handler."""
