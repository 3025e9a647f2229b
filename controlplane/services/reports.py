"""What nodes say, as the store keeps it."""

from controlplane.core.model import Node, NodeState, Region
from controlplane.core.session import NodeHello

NEWS_SHARE = 0.02
"""Of a node's capacity: a load that moves by less decides no placement."""


def registered(
    hello: NodeHello, region: Region, known: Node | None, *, replica: str, now: float
) -> Node:
    """Return the node that a hello to `replica` describes, in the state it had before.

    It takes as many people as itself and its region allow. Load, people and round trips are what it last reported,
    until its first report says better.
    """
    return Node(
        id=hello.node,
        region=hello.region,
        http_url=hello.http_url.rstrip("/"),
        media_host=hello.media.host,
        media_port=hello.media.port,
        trunk_target=hello.trunk_target,
        capacity=min(hello.capacity, region.node_capacity),
        engine=hello.engine,
        version=hello.version,
        state=known.state if known else NodeState.JOINING,
        heard_at=now,
        registered_at=known.registered_at if known else now,
        load=known.load if known else 0.0,
        participants=known.participants if known else 0,
        replica=replica,
        rtts=known.rtts if known else {},
    )


def is_news(before: Node, after: Node) -> bool:
    """Return whether other replicas should know at once what a report says of the node itself."""
    full = max(1, before.capacity)
    return (
        (before.replica, before.region, before.trunk_target)
        != (after.replica, after.region, after.trunk_target)
        or after.rtts is not before.rtts
        or abs(after.load - before.load) >= NEWS_SHARE
        or abs(after.participants - before.participants) / full >= NEWS_SHARE
        or (after.participants == 0) != (before.participants == 0)
    )
