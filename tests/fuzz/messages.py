"""Targets that take protobuf: from nodes, from the control plane, from signalling servers that speak gRPC."""

from contextlib import suppress
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from thalweg.v1 import allocator_pb2, common_pb2, node_pb2, trunk_pb2

from controlplane.adapters import wire as controlplane_wire
from controlplane.api.allocator_grpc import _join
from controlplane.core.identity import Caller
from controlplane.errors import InvalidInputError, NotFoundError
from relay.api import wire as relay_wire
from relay.trunk import wire as trunk_wire
from tests.fuzz.target import Target

_M = TypeVar("_M", bound=Message)


def _parsed(kind: type[_M], data: bytes) -> _M | None:
    """Return what gRPC would hand over; it refuses what does not decode."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def _session_request(data: bytes) -> None:
    request = _parsed(node_pb2.SessionRequest, data)
    if request is None:
        return
    with suppress(InvalidInputError):
        controlplane_wire.hello_from_wire(request.hello)
    with suppress(InvalidInputError):
        controlplane_wire.standby_from_wire(request.standby)
    with suppress(InvalidInputError):
        controlplane_wire.ReportReader().read(request.report)


def _roster(data: bytes) -> None:
    figures = node_pb2.Figures(rtt_ms=[1.0], link_packets=[1], link_repaired=[1], link_lost=[1])
    with suppress(InvalidInputError):
        controlplane_wire.ReportReader().read(node_pb2.Report(roster=data, figures=figures))


def _join_request(data: bytes) -> None:
    request = _parsed(allocator_pb2.JoinRequest, data)
    if request is not None:
        with suppress(InvalidInputError, NotFoundError):
            _join(request, Caller("key", "acme"))


def _snapshot(data: bytes) -> None:
    message = _parsed(node_pb2.Snapshot, data)
    if message is not None:
        with suppress(ValueError):
            relay_wire.snapshot_from_wire(message, "a")


def _trunk_message(data: bytes) -> None:
    message = _parsed(trunk_pb2.TrunkMessage, data)
    if message is not None:
        with suppress(ValueError):
            trunk_wire.from_wire(message, "b")
    call = _parsed(trunk_pb2.OpenRequest, data)
    if call is not None:
        with suppress(ValueError):
            trunk_wire.call(call.endpoint, call.send_key)


_MEDIA = common_pb2.UdpEndpoint(host="192.0.2.1", port=9)
_HELLO = node_pb2.Hello(
    node="a", region="eu", http_url="https://a.example", media=_MEDIA, trunk_target="a:1",
    capacity=10, version="1", engine="embedded",
)  # fmt: skip
_REPORT = node_pb2.Report(sequence=1, load=0.5)
_ROSTER = node_pb2.Roster(
    participants=[
        node_pb2.ParticipantReport(
            room="acme:r", participant="p", epoch=1, slots=2,
            tracks=[
                node_pb2.TrackReport(
                    id="t",
                    kind=common_pb2.MEDIA_KIND_AUDIO,
                    codec=common_pb2.Codec(name="opus", clock_rate=48_000, channels=2),
                )
            ],
        )
    ],
    links=[
        node_pb2.LinkReport(
            room="r", to_node="b", state=node_pb2.LINK_STATE_UP, tracks=["t"]
        )
    ],
)  # fmt: skip
_SNAPSHOT = node_pb2.Snapshot(
    version=1,
    links=[node_pb2.LinkSpec(room="r", from_node="a", to_node="b")],
    peers=[node_pb2.PeerSpec(node="b", region="us", trunk_target="b:1", media=_MEDIA)],
    token_keys=[node_pb2.PublicKey(kid="k", ed25519=bytes(32))],
    report_interval_ms=500,
    control_planes=["10.0.0.1:1"],
    turn=node_pb2.TurnOrders(
        realm="eu.example",
        secrets=[node_pb2.TurnSecret(value="s" * 32, not_after=2**31)],
        peers=["192.0.2.1"],
        listeners=[node_pb2.TurnListener(host="turn.example", port=3478, tls_port=443)],
        transports=["udp", "tls"],
    ),
)
_JOIN = allocator_pb2.JoinRequest(
    room="r", participant="p", session="s", client_ip="192.0.2.1", role="viewer",
    probes=[allocator_pb2.Probe(region="eu", rtt_ms=[1.5])],
)  # fmt: skip
_TRACK = trunk_pb2.OfferedTrack(
    id="t", participant="p", kind=common_pb2.MEDIA_KIND_VIDEO, ssrc=7, hops=1, origin_node="b",
    codec=common_pb2.Codec(name="vp8", clock_rate=90_000),
    extensions=[trunk_pb2.HeaderExtension(id=1, uri="urn:x")],
)  # fmt: skip
_TRACKS = trunk_pb2.TrunkMessage(tracks=trunk_pb2.RoomTracks(room="r", tracks=[_TRACK]))
_OPEN = trunk_pb2.OpenRequest(
    node="a", to_node="b", endpoint=_MEDIA, send_key=trunk_pb2.SrtpKey(key_and_salt=bytes(44))
)

TARGETS = {
    "SessionRequest": Target(
        _session_request,
        (
            node_pb2.SessionRequest(hello=_HELLO).SerializeToString(),
            node_pb2.SessionRequest(report=_REPORT).SerializeToString(),
        ),
    ),
    "roster": Target(_roster, (_ROSTER.SerializeToString(),)),
    "JoinRequest": Target(_join_request, (_JOIN.SerializeToString(),)),
    "Snapshot": Target(_snapshot, (_SNAPSHOT.SerializeToString(),)),
    "TrunkMessage": Target(
        _trunk_message, (_TRACKS.SerializeToString(), _OPEN.SerializeToString())
    ),
}
