"""Protobuf messages of node.proto to and from core/session.py.

What comes in is checked here: a value that the core could not stand becomes InvalidInputError, and lists
are bounded, so that a broken node cannot fill the memory of the control plane.
"""

import math
from collections.abc import Sized
from urllib.parse import urlsplit

from thalweg.v1 import common_pb2, node_pb2

from controlplane.core.ids import id_refusal, name_refusal
from controlplane.core.model import NodeId, ParticipantId, RegionId, RoomId, TrackStatus
from controlplane.core.session import (
    Endpoint,
    LinkReport,
    NodeHello,
    NodeReport,
    NodeSnapshot,
    ParticipantReport,
    PeerRtt,
    PeerSpec,
)
from controlplane.errors import InvalidInputError

MAX_ENTRIES = 20_000
"""Participants or links in one report: fifty times what a node takes."""

MAX_TRACKS = 64
"""Tracks of one participant: cameras and screens, with room to spare."""

MAX_ALL_TRACKS = 2 * MAX_ENTRIES
"""Tracks in one report: a report of 3 MB of them would hold the event loop for seconds."""

MAX_TEXT = 2048
"""Characters of a URL or of an address: they are repeated to every client of the node."""

MAX_COUNTER = 2**53
"""Epochs and versions stay below: JSON and Lua have them as doubles, and one more has to fit too."""

MAX_RTT_MS = 60_000.0
"""A longer round trip is a fault of the measurement."""

_KINDS = {
    common_pb2.MEDIA_KIND_AUDIO: "audio",
    common_pb2.MEDIA_KIND_VIDEO: "video",
}

_LINK_STATES = {
    node_pb2.LINK_STATE_CONNECTING: "connecting",
    node_pb2.LINK_STATE_UP: "up",
    node_pb2.LINK_STATE_DOWN: "down",
}


def hello_from_wire(hello: node_pb2.Hello) -> NodeHello:
    """Return who the node says it is. Raises InvalidInputError ("bad-hello")."""
    for what, name in (("node", hello.node), ("region", hello.region)):
        why_not = name_refusal(name)
        if why_not is not None:
            raise _bad("bad-hello", f"{what} is {name[:100]!r}: {why_not}")
    url = hello.http_url.rstrip("/")
    if not _is_base_url(url):
        raise _bad("bad-hello", f"http_url is {url[:100]!r}, not an http or https URL to build on")
    if not _is_target(hello.trunk_target):
        raise _bad("bad-hello", f"trunk_target is {hello.trunk_target[:100]!r}, not host:port")
    if not hello.capacity:
        raise _bad("bad-hello", "capacity is 0: the node could take nobody")
    if hello.kept_snapshot >= MAX_COUNTER:
        raise _bad("bad-hello", f"kept_snapshot is {hello.kept_snapshot}, no version of ours")
    return NodeHello(
        node=NodeId(hello.node),
        region=RegionId(hello.region),
        http_url=url,
        media=_endpoint(hello.media),
        trunk_target=hello.trunk_target,
        capacity=hello.capacity,
        version=hello.version[:64],
        engine=hello.engine[:32],
        kept_snapshot=hello.kept_snapshot,
    )


def _is_base_url(url: str) -> bool:
    """Return whether paths can be added to a URL: nothing follows its path, and it has no blank in it."""
    if len(url) > MAX_TEXT or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        has_good_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_http = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return is_http and has_good_port and not (parts.query or parts.fragment or parts.username)


def _is_target(target: str) -> bool:
    host, _, port = target.rpartition(":")
    return bool(host) and len(target) <= MAX_TEXT and port.isascii() and port.isdigit()


def _endpoint(endpoint: common_pb2.UdpEndpoint) -> Endpoint:
    if not 1 <= len(endpoint.host) <= MAX_TEXT or not 1 <= endpoint.port <= 65535:
        raise _bad(
            "bad-hello", f"media is {endpoint.host[:100]!r}:{endpoint.port}, not host and port"
        )
    return Endpoint(endpoint.host, endpoint.port)


def report_from_wire(report: node_pb2.Report) -> NodeReport:
    """Return the node's state. Raises InvalidInputError ("bad-report")."""
    _bounded("participants", report.participants)
    _bounded("links", report.links)
    _bounded("rtts", report.rtts)
    tracks = sum(len(one.tracks) for one in report.participants)
    if tracks > MAX_ALL_TRACKS:
        raise _bad("bad-report", f"{tracks} tracks; at most {MAX_ALL_TRACKS} fit")
    if not (math.isfinite(report.load) and report.load >= 0):
        raise _bad("bad-report", f"load is {report.load}")
    return NodeReport(
        sequence=report.sequence,
        load=report.load,
        participants=tuple(_participant(one) for one in report.participants),
        links=tuple(_link(one) for one in report.links),
        rtts=tuple(
            PeerRtt(NodeId(one.node), RegionId(one.region), _rtt(one.rtt_ms)) for one in report.rtts
        ),
    )


def _bounded(name: str, entries: Sized, most: int = MAX_ENTRIES) -> None:
    if len(entries) > most:
        raise _bad("bad-report", f"{len(entries)} {name}; at most {most} fit")


def _rtt(rtt_ms: float) -> float:
    if not (math.isfinite(rtt_ms) and 0 <= rtt_ms <= MAX_RTT_MS):
        raise _bad("bad-report", f"rtt_ms is {rtt_ms}")
    return rtt_ms


def _participant(report: node_pb2.ParticipantReport) -> ParticipantReport:
    for what, id_ in (("room", report.room), ("participant", report.participant)):
        why_not = id_refusal(id_)
        if why_not is not None:
            raise _bad("bad-report", f"{what} is {id_[:100]!r}: {why_not}")
    if report.epoch >= MAX_COUNTER:
        raise _bad("bad-report", f"epoch is {report.epoch}, none of ours")
    _bounded("tracks", report.tracks, MAX_TRACKS)
    rtt_ms = _rtt(report.rtt_ms)
    return ParticipantReport(
        room=RoomId(report.room),
        participant=ParticipantId(report.participant),
        epoch=report.epoch,
        tracks=tuple(_track(track) for track in report.tracks),
        slots=report.slots,
        rtt_ms=rtt_ms if rtt_ms > 0 else None,
    )


def _track(track: node_pb2.TrackReport) -> TrackStatus:
    kind = _KINDS.get(track.kind)
    if kind is None:
        raise _bad("bad-report", f"track {track.id[:100]!r} is of kind {track.kind}")
    return TrackStatus(track.id, kind, track.codec.name, track.packets)


def _link(link: node_pb2.LinkReport) -> LinkReport:
    state = _LINK_STATES.get(link.state)
    if state is None:
        raise _bad("bad-report", f"the link to {link.to_node[:100]!r} is in state {link.state}")
    return LinkReport(
        room=RoomId(link.room),
        to_node=NodeId(link.to_node),
        state=state,
        tracks=tuple(link.tracks),
        packets=link.packets,
        repaired=link.repaired,
        lost=link.lost,
    )


def _bad(code: str, detail: str) -> InvalidInputError:
    return InvalidInputError(
        code, detail, "this is a fault of the node's software; compare versions"
    )


def snapshot_to_wire(snapshot: NodeSnapshot, *, nonce: str) -> node_pb2.Snapshot:
    """Return a snapshot as a message; `nonce` is what the node's answer will repeat."""
    return node_pb2.Snapshot(
        version=snapshot.version,
        nonce=nonce,
        links=[
            node_pb2.LinkSpec(room=link.room, from_node=link.from_node, to_node=link.to_node)
            for link in snapshot.links
        ],
        peers=[_peer(peer) for peer in snapshot.peers],
        token_keys=[
            node_pb2.PublicKey(kid=kid, ed25519=key)
            for kid, key in sorted(snapshot.token_keys.items())
        ],
        draining=snapshot.draining,
        end_sessions=[
            node_pb2.EndSession(
                room=end.room, participant=end.participant, epoch=end.epoch, reason=end.reason
            )
            for end in snapshot.end_sessions
        ],
        report_interval_ms=snapshot.report_interval_ms,
    )


def _peer(peer: PeerSpec) -> node_pb2.PeerSpec:
    return node_pb2.PeerSpec(
        node=peer.node,
        region=peer.region,
        trunk_target=peer.trunk_target,
        media=common_pb2.UdpEndpoint(host=peer.media.host, port=peer.media.port),
    )
