"""What the ends of a trunk say: protobuf ↔ plain. What comes from the wire is checked here and nowhere else."""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from thalweg.v1 import common_pb2, trunk_pb2

from relay.core.model import Codec, MediaKind, TrackInfo
from relay.trunk.model import (
    Endpoint,
    Message,
    Offer,
    OpenCall,
    Ping,
    Pong,
    RoomDemand,
    RoomOffers,
    RoomSpeakers,
)
from relay.trunk.udp import KEY_BYTES

MAX_TRACKS = 2000
"""Tracks of one room that a message may name: a thousand publishers with sound and picture."""

_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_ROOM = re.compile(r"(?:[a-z][a-z0-9-]{0,62}:)?[A-Za-z0-9._~-]{1,128}")
"""The control plane puts the tenant before the room, unless it is the default one."""
_TRACK_ID = re.compile(r"[\x21-\x7e]{1,256}")
_NODE = re.compile(r"[a-z][a-z0-9-]{0,62}")

_KINDS = {
    MediaKind.AUDIO: common_pb2.MEDIA_KIND_AUDIO,
    MediaKind.VIDEO: common_pb2.MEDIA_KIND_VIDEO,
}
_KINDS_BACK = {number: kind for kind, number in _KINDS.items()}

KIND_NUMBERS = _KINDS
"""MediaKind → the protocol's enum."""


def room_id(text: str) -> str:
    """Return a room id. Raises ValueError."""
    if not _ROOM.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a room id, ROOM or TENANT:ROOM")
    return text


def participant_id(text: str) -> str:
    """Return a participant id. Raises ValueError."""
    if not _ID.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not an id: 1 to 128 of A-Z a-z 0-9 . _ ~ -")
    return text


def node_id(text: str) -> str:
    """Return a node or region id. Raises ValueError."""
    if not _NODE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a node or region id")
    return text


def _track_id(text: str) -> str:
    if not _TRACK_ID.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a track id")
    return text


def endpoint(message: common_pb2.UdpEndpoint) -> Endpoint:
    """Return a UDP address. Raises ValueError."""
    if not 1 <= message.port <= 65535:
        raise ValueError(f"{message.port} is not a port")
    return Endpoint(ip_address(message.host).compressed, message.port)


def endpoint_message(address: Endpoint) -> common_pb2.UdpEndpoint:
    """Return the wire form of a UDP address."""
    return common_pb2.UdpEndpoint(host=address.host, port=address.port)


def codec_message(codec: Codec) -> common_pb2.Codec:
    """Return the wire form of a codec."""
    return common_pb2.Codec(
        name=codec.name, clock_rate=codec.clock_rate, channels=codec.channels, fmtp=codec.fmtp
    )


def call(address: common_pb2.UdpEndpoint, key: trunk_pb2.SrtpKey) -> OpenCall:
    """Return one end of a new trunk. Raises ValueError."""
    if len(key.key_and_salt) != KEY_BYTES:
        raise ValueError(f"the key has {len(key.key_and_salt)} bytes and not {KEY_BYTES}")
    return OpenCall(endpoint(address), key.key_and_salt)


def to_wire(message: Message) -> trunk_pb2.TrunkMessage:
    """Return the wire form of a message."""
    match message:
        case RoomOffers(room, offers):
            tracks = [_offer_message(offer) for offer in offers]
            return trunk_pb2.TrunkMessage(tracks=trunk_pb2.RoomTracks(room=room, tracks=tracks))
        case RoomDemand(room, wanted):
            return trunk_pb2.TrunkMessage(
                demand=trunk_pb2.RoomDemand(room=room, tracks=sorted(wanted))
            )
        case RoomSpeakers(room, speaking):
            return trunk_pb2.TrunkMessage(
                speakers=trunk_pb2.RoomSpeakers(room=room, tracks=sorted(speaking))
            )
        case Ping(nonce):
            return trunk_pb2.TrunkMessage(ping=trunk_pb2.Ping(nonce=nonce))
        case Pong(nonce):
            return trunk_pb2.TrunkMessage(pong=trunk_pb2.Pong(nonce=nonce))


def from_wire(message: trunk_pb2.TrunkMessage, sender: str) -> Message | None:
    """Return a message from node `sender`, or None for a kind that a newer version invented.

    Raises ValueError for one that is not well formed or not the sender's to say.
    """
    kind = message.WhichOneof("body")
    if kind == "tracks":
        offers = tuple(
            _offer(track, message.tracks.room, sender) for track in message.tracks.tracks
        )
        _check(len(offers), "id", (offer.info.id for offer in offers))
        _check(len(offers), "SSRC", (offer.ssrc for offer in offers))
        return RoomOffers(room_id(message.tracks.room), offers)
    if kind == "demand":
        wanted = frozenset(message.demand.tracks)
        _check(len(message.demand.tracks), "id", wanted)
        return RoomDemand(room_id(message.demand.room), wanted)
    if kind == "speakers":
        speaking = frozenset(message.speakers.tracks)
        _check(len(message.speakers.tracks), "id", speaking)
        return RoomSpeakers(room_id(message.speakers.room), speaking)
    if kind == "ping":
        return Ping(message.ping.nonce)
    if kind == "pong":
        return Pong(message.pong.nonce)
    return None


def _check(count: int, what: str, values: Iterable[object]) -> None:
    if count > MAX_TRACKS:
        raise ValueError(f"{count} tracks in one room are more than {MAX_TRACKS}")
    if len(set(values)) != count:
        raise ValueError(f"two tracks of a room have the same {what}")


def _offer_message(offer: Offer) -> trunk_pb2.OfferedTrack:
    info = offer.info
    return trunk_pb2.OfferedTrack(
        id=info.id,
        participant=info.participant,
        kind=_KINDS[info.kind],
        codec=codec_message(info.codec),
        ssrc=offer.ssrc,
        hops=info.hops,
        origin_node=info.origin_node,
        extensions=[
            trunk_pb2.HeaderExtension(id=number, uri=uri)
            for uri, number in offer.extensions.items()
        ],
    )


def _offer(track: trunk_pb2.OfferedTrack, room: str, sender: str) -> Offer:
    if track.kind not in _KINDS_BACK:
        raise ValueError(f"track {track.id[:40]!r} is neither sound nor picture")
    if track.hops != 1 or track.origin_node != sender:
        raise ValueError(
            f"{sender} offers a track of {track.origin_node[:63]!r} over {track.hops} hops: "
            "a node offers its own tracks, over one"
        )
    if not 8_000 <= track.codec.clock_rate <= 192_000:
        raise ValueError(f"track {track.id[:40]!r} has a clock of {track.codec.clock_rate} Hz")
    codec = Codec(track.codec.name, track.codec.clock_rate, track.codec.channels, track.codec.fmtp)
    info = TrackInfo(
        id=_track_id(track.id),
        room=room,
        participant=participant_id(track.participant),
        kind=_KINDS_BACK[track.kind],
        codec=codec,
        origin_node=node_id(track.origin_node),
        hops=track.hops,
    )
    return Offer(info, track.ssrc, {ext.uri: ext.id for ext in track.extensions})
