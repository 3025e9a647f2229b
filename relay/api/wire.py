"""What node and control plane say: protobuf ↔ plain. What comes from the wire is checked here and nowhere else."""

from collections.abc import Iterable, Sequence

from thalweg.v1 import node_pb2

from relay.api.snapshot import EndedSession, Snapshot
from relay.api.turn_wire import turn_from_wire
from relay.engines.base import ParticipantStatus
from relay.trunk.model import Link, LinkStatus, Peer, PeerRtt, TrunkState
from relay.trunk.wire import (
    KIND_NUMBERS,
    codec_message,
    endpoint,
    node_id,
    participant_id,
    room_id,
)

KEY_BYTES = 32
"""Of a raw Ed25519 public key (RFC 8032, section 5.1.5)."""

DEFAULT_REPORT_S = 0.5
MIN_REPORT_S = 0.1
MAX_REPORT_S = 2.0
"""A node that reports more rarely would be taken for lost, whatever the snapshot says."""

MAX_LINKS = 100_000
MAX_PEERS = 10_000
"""Bounds on one snapshot: far above any node's business, far below its memory."""

MAX_TARGET = 260
"""A DNS name (RFC 1035, 2.3.4) and a port."""

_LINK_STATES = {
    TrunkState.CONNECTING: node_pb2.LINK_STATE_CONNECTING,
    TrunkState.UP: node_pb2.LINK_STATE_UP,
    TrunkState.DOWN: node_pb2.LINK_STATE_DOWN,
}


def snapshot_from_wire(message: node_pb2.Snapshot, node: str) -> Snapshot:
    """Return the orders for `node`. Raises ValueError with a sentence that says what is wrong with them."""
    if len(message.links) > MAX_LINKS or len(message.peers) > MAX_PEERS:
        raise ValueError(f"{len(message.links)} links and {len(message.peers)} peers are too many")
    peers = tuple(_peer(peer) for peer in message.peers)
    known = {peer.node for peer in peers}
    if len(known) != len(peers):
        raise ValueError("a peer is named twice")
    return Snapshot(
        version=message.version,
        links=tuple(_link(link, node, known) for link in message.links),
        peers=peers,
        token_keys=_keys(message.token_keys),
        draining=message.draining,
        end_sessions=tuple(
            EndedSession(
                room_id(end.room), participant_id(end.participant), end.epoch, end.reason[:200]
            )
            for end in message.end_sessions
        ),
        report_interval_s=_interval_s(message.report_interval_ms),
        control_planes=tuple(_target(target) for target in message.control_planes),
        turn=turn_from_wire(message.turn) if message.HasField("turn") else None,
    )


def roster_to_wire(participants: Iterable[ParticipantStatus], links: Iterable[LinkStatus]) -> bytes:
    """Return who and what is here as a serialised Roster: the same bytes while nothing of it changes."""
    roster = node_pb2.Roster(
        participants=[_participant(status) for status in participants],
        links=[
            node_pb2.LinkReport(
                room=link.room,
                to_node=link.to_node,
                state=_LINK_STATES[link.state],
                tracks=link.tracks,
            )
            for link in links
        ],
    )
    return roster.SerializeToString(deterministic=True)


def figures_to_wire(
    participants: Iterable[ParticipantStatus], links: Sequence[LinkStatus]
) -> node_pb2.Figures:
    """Return what was measured, in the order of the roster."""
    return node_pb2.Figures(
        rtt_ms=[status.rtt_ms or 0.0 for status in participants],
        link_packets=[link.packets for link in links],
        link_repaired=[link.repaired for link in links],
        link_lost=[link.lost for link in links],
    )


def rtts_to_wire(rtts: Iterable[PeerRtt]) -> list[node_pb2.PeerRtt]:
    """Return the round trips to other nodes."""
    return [node_pb2.PeerRtt(node=r.node, region=r.region, rtt_ms=r.rtt_ms) for r in rtts]


def _participant(status: ParticipantStatus) -> node_pb2.ParticipantReport:
    return node_pb2.ParticipantReport(
        room=status.room,
        participant=status.participant,
        epoch=status.epoch,
        tracks=[
            node_pb2.TrackReport(
                id=track.info.id,
                kind=KIND_NUMBERS[track.info.kind],
                codec=codec_message(track.info.codec),
            )
            for track in status.tracks
        ],
        slots=status.slots,
    )


def _peer(peer: node_pb2.PeerSpec) -> Peer:
    media = endpoint(peer.media) if peer.HasField("media") and peer.media.port else None
    if not peer.trunk_target.rpartition(":")[0]:
        raise ValueError(f"peer {peer.node[:63]!r} has no trunk target of the form host:port")
    return Peer(node_id(peer.node), node_id(peer.region), peer.trunk_target, media)


def _link(link: node_pb2.LinkSpec, node: str, known: set[str]) -> Link:
    ends = {link.from_node, link.to_node}
    if len(ends) != 2 or node not in ends:
        raise ValueError(
            f"link {link.from_node[:63]!r} to {link.to_node[:63]!r} is not between {node} and another"
        )
    [other] = ends - {node}
    if other not in known:
        raise ValueError(f"a link leads to {other[:63]!r}, which is not among the peers")
    return Link(room_id(link.room), link.from_node, link.to_node)


def _keys(keys: Iterable[node_pb2.PublicKey]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for key in keys:
        if not key.kid or len(key.ed25519) != KEY_BYTES:
            raise ValueError(
                f"token key {key.kid[:40]!r} has {len(key.ed25519)} bytes and not {KEY_BYTES}"
            )
        found[key.kid] = key.ed25519
    return found


def _target(target: str) -> str:
    host, _, port = target.rpartition(":")
    if not host or len(target) > MAX_TARGET or not (port.isascii() and port.isdigit()):
        raise ValueError(f"{target[:100]!r} is no control plane of the form host:port")
    return target


def _interval_s(milliseconds: int) -> float:
    if not milliseconds:
        return DEFAULT_REPORT_S
    return min(max(milliseconds / 1000, MIN_REPORT_S), MAX_REPORT_S)
