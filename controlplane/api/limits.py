"""How many connections the HTTP door takes; what each of them may hold is in guard/connections.py."""

from functools import partial

from controlplane.core.addresses import parse_address
from guard import connections

MAX_CONNECTIONS = 4096
"""In all. Signalling servers keep a few hundred; each of ours costs some 20 kB, with headers up to half a megabyte."""

MAX_PER_ADDRESS = 512
"""Of one IPv4 address or /64 of IPv6. Trusted proxies may have all."""

limited_connections = partial(
    connections.Connections,
    parse=parse_address,
    most=MAX_CONNECTIONS,
    per_address=MAX_PER_ADDRESS,
)

limited_runner = partial(connections.limited_runner, cancels=False)
"""A handler runs to its end, whoever has gone meanwhile."""
