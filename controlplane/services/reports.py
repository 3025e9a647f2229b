"""What nodes say, as the store keeps it."""

from controlplane.core.model import LinkStatus, Node, NodeId, NodeState, Region
from controlplane.core.session import NodeHello, NodeReport


def registered(hello: NodeHello, region: Region, known: Node | None, *, now: float) -> Node:
    """Return the node that a hello describes, in the state it had before.

    It takes as many people as itself and its region allow. Load and people are what it last reported, until its first
    report says better.
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
    )


def link_statuses(node: NodeId, report: NodeReport) -> list[LinkStatus]:
    """Return the links that a node reports, with itself as the sender."""
    return [
        LinkStatus(
            room=one.room,
            from_node=node,
            to_node=one.to_node,
            state=one.state,
            tracks=one.tracks,
            packets=one.packets,
            repaired=one.repaired,
            lost=one.lost,
        )
        for one in report.links
    ]
