"""Protobuf messages of node.proto to and from core/session.py.

What comes in is checked here: a value that the core could not stand becomes InvalidInputError, and lists
are bounded, so that a broken node cannot fill the memory of the control plane.
"""

import math
from collections.abc import Sequence, Sized
from functools import lru_cache
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from thalweg.v1 import common_pb2, node_pb2

from controlplane.adapters.roster import LINKS, PARTICIPANTS, Remembered, entries
from controlplane.core.ids import id_refusal, name_refusal, room_refusal
from controlplane.core.model import NodeId, ParticipantId, RegionId, RoomId, TrackStatus
from controlplane.core.session import (
    NO_FIGURES,
    Endpoint,
    LinkFigures,
    LinkReport,
    LinkSpec,
    NodeHello,
    NodeReport,
    NodeSnapshot,
    ParticipantReport,
    PeerRtt,
    PeerSpec,
    TurnOrders,
)
from controlplane.errors import InvalidInputError

MAX_ENTRIES = 20_000
"""Participants or links in one report: fifty times what a node takes."""

MAX_TRACKS = 64
"""Tracks of one participant: cameras and screens, with room to spare."""

MAX_ALL_TRACKS = 2 * MAX_ENTRIES
"""Tracks in one report: a report of 3 MB of them would hold the event loop for seconds."""

FIGURES_EVERY = 4
"""Counters of links and round trips between nodes are read in every so manieth report: nobody decides by them within
seconds, and to read them costs as much as all the rest."""

MAX_TEXT = 2048
"""Characters of a URL or of an address: they are repeated to every client of the node."""

MAX_COUNTER = 2**53
"""Epochs and versions stay below: JSON and Lua have them as doubles, and one more has to fit too."""

MAX_RTT_MS = 60_000.0
"""A longer round trip is a fault of the measurement."""

MAX_KNOWN_FIELDS = 100_000
"""Links whose bytes are kept: 25 MB. 20,000 rooms on two nodes each have 40,000. Peers are as many as nodes."""

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


def standby_from_wire(standby: node_pb2.Standby) -> tuple[NodeId, RegionId]:
    """Return which node waits, and its region. Raises InvalidInputError ("bad-hello")."""
    for what, name in (("node", standby.node), ("region", standby.region)):
        why_not = name_refusal(name)
        if why_not is not None:
            raise _bad("bad-hello", f"{what} is {name[:100]!r}: {why_not}")
    return NodeId(standby.node), RegionId(standby.region)


class ReportReader:
    """Reads the reports of one session; what is the same as before is not read again."""

    def __init__(self) -> None:
        self._bytes = b""
        self._participants: tuple[ParticipantReport, ...] = ()
        self._links: tuple[LinkReport, ...] = ()
        self._rtts: tuple[PeerRtt, ...] = ()
        self._link_figures = NO_FIGURES
        self._reports = 0
        self._tracks = 0
        """Read for this roster."""
        self._known_participants = Remembered(self._read_participant)
        self._known_links = Remembered(_read_link)

    def read(self, report: node_pb2.Report) -> NodeReport:
        """Return the node's state. Raises InvalidInputError ("bad-report")."""
        _bounded("rtts", report.rtts)
        if not (math.isfinite(report.load) and report.load >= 0):
            raise _bad("bad-report", f"load is {report.load}")
        is_other = report.roster != self._bytes
        if is_other:
            self._read_roster(report.roster)
        if is_other or self._reports % FIGURES_EVERY == 0:
            self._rtts = tuple(
                [
                    PeerRtt(NodeId(one.node), RegionId(one.region), _rtt(one.rtt_ms))
                    for one in report.rtts
                ]
            )
            self._link_figures = _link_figures(report.figures, self._links)
        self._reports += 1
        return NodeReport(
            sequence=report.sequence,
            load=report.load,
            participants=self._participants,
            links=self._links,
            rtts=self._rtts,
            client_rtts=_as_long(report.figures.rtt_ms, self._participants),
            link_figures=self._link_figures,
        )

    def _read_roster(self, content: bytes) -> None:
        people: list[bytes] = []
        links: list[bytes] = []
        try:
            for number, entry in entries(content):
                if number == PARTICIPANTS:
                    people.append(entry)
                elif number == LINKS:
                    links.append(entry)
            _bounded("participants", people)
            _bounded("links", links)
            self._tracks = 0
            participants = self._known_participants.all(people)
            self._links = self._known_links.all(links)
        except (ValueError, DecodeError) as error:
            raise _bad("bad-report", f"the roster cannot be read: {error}") from error
        _few_tracks(sum([len(one.tracks) for one in participants]))
        self._participants, self._bytes = participants, content

    def _read_participant(self, content: bytes) -> ParticipantReport:
        message = node_pb2.ParticipantReport.FromString(content)
        self._tracks += len(message.tracks)
        _few_tracks(self._tracks)
        return _participant(message)


def _few_tracks(tracks: int) -> None:
    if tracks > MAX_ALL_TRACKS:
        raise _bad("bad-report", f"{tracks} tracks; at most {MAX_ALL_TRACKS} fit")


def _read_link(content: bytes) -> LinkReport:
    return _link(node_pb2.LinkReport.FromString(content))


def _link_figures(figures: node_pb2.Figures, links: Sized) -> LinkFigures:
    columns = (figures.link_packets, figures.link_repaired, figures.link_lost)
    if any(len(column) != len(links) for column in columns):
        return NO_FIGURES
    return LinkFigures(*[list(column) for column in columns])


def _as_long(figures: Sequence[float], names: Sized) -> list[float]:
    """Return the figures if there is one for each name; another number says nothing about anybody."""
    return list(figures) if len(figures) == len(names) else []


def _bounded(name: str, entries: Sized, most: int = MAX_ENTRIES) -> None:
    if len(entries) > most:
        raise _bad("bad-report", f"{len(entries)} {name}; at most {most} fit")


def _rtt(rtt_ms: float) -> float:
    if not (math.isfinite(rtt_ms) and 0 <= rtt_ms <= MAX_RTT_MS):
        raise _bad("bad-report", f"rtt_ms is {rtt_ms}")
    return rtt_ms


def _participant(report: node_pb2.ParticipantReport) -> ParticipantReport:
    for what, id_, why_not in (
        ("room", report.room, room_refusal(report.room)),
        ("participant", report.participant, id_refusal(report.participant)),
    ):
        if why_not is not None:
            raise _bad("bad-report", f"{what} is {id_[:100]!r}: {why_not}")
    if report.epoch >= MAX_COUNTER:
        raise _bad("bad-report", f"epoch is {report.epoch}, none of ours")
    _bounded("tracks", report.tracks, MAX_TRACKS)
    return ParticipantReport(
        room=RoomId(report.room),
        participant=ParticipantId(report.participant),
        epoch=report.epoch,
        tracks=tuple(_track(track) for track in report.tracks),
        slots=report.slots,
    )


def _track(track: node_pb2.TrackReport) -> TrackStatus:
    kind = _KINDS.get(track.kind)
    if kind is None:
        raise _bad("bad-report", f"track {track.id[:100]!r} is of kind {track.kind}")
    return TrackStatus(track.id, kind, track.codec.name)


def _link(link: node_pb2.LinkReport) -> LinkReport:
    state = _LINK_STATES.get(link.state)
    if state is None:
        raise _bad("bad-report", f"the link to {link.to_node[:100]!r} is in state {link.state}")
    return LinkReport(
        room=RoomId(link.room),
        to_node=NodeId(link.to_node),
        state=state,
        tracks=tuple(link.tracks),
    )


def _bad(code: str, detail: str) -> InvalidInputError:
    return InvalidInputError(
        code, detail, "this is a fault of the node's software; compare versions"
    )


def snapshot_to_wire(snapshot: NodeSnapshot, *, nonce: str) -> node_pb2.Snapshot:
    """Return a snapshot as a message; `nonce` is what the node's answer will repeat."""
    message = node_pb2.Snapshot(
        version=snapshot.version,
        nonce=nonce,
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
        control_planes=snapshot.control_planes,
        turn=_turn(snapshot.turn) if snapshot.turn is not None else None,
    )
    # Of hundreds of links and peers mostly one or two are new. Messages that follow each other merge into one.
    message.MergeFromString(
        b"".join([*map(_link_field, snapshot.links), *map(_peer_field, snapshot.peers)])
    )
    return message


def _turn(orders: TurnOrders) -> node_pb2.TurnOrders:
    return node_pb2.TurnOrders(
        realm=orders.realm,
        secrets=[
            node_pb2.TurnSecret(value=one.value, not_after=one.not_after) for one in orders.secrets
        ],
        peers=orders.peers,
        listeners=[
            node_pb2.TurnListener(host=one.host, port=one.port, tls_port=one.tls_port)
            for one in orders.servers
        ],
        transports=orders.transports,
    )


@lru_cache(maxsize=MAX_KNOWN_FIELDS)
def _link_field(link: LinkSpec) -> bytes:
    """Return a snapshot with this link alone."""
    spec = node_pb2.LinkSpec(room=link.room, from_node=link.from_node, to_node=link.to_node)
    return node_pb2.Snapshot(links=[spec]).SerializeToString()


@lru_cache(maxsize=MAX_KNOWN_FIELDS)
def _peer_field(peer: PeerSpec) -> bytes:
    """Return a snapshot with this peer alone."""
    spec = node_pb2.PeerSpec(
        node=peer.node,
        region=peer.region,
        trunk_target=peer.trunk_target,
        media=common_pb2.UdpEndpoint(host=peer.media.host, port=peer.media.port),
    )
    return node_pb2.Snapshot(peers=[spec]).SerializeToString()
