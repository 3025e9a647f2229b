"""Assignments as bytes in Redis: a line that scripts read, and three parts that they copy.

`EPOCH LEASE_MS STATIC CLIENT SESSION\\n`, then the parts; STATIC and CLIENT are lengths of the first and the second.
Each part has one writer, so that nobody's write undoes another's:

- static: what the decision fixed, written once per epoch;
- client: what the client brings when it joins again (round trips, network);
- node: what the node reports (live, tracks, round trips measured in the call).

A part begins with its version, so that replicas of two releases run side by side: one that meets a part of a newer
form says so (`RecordError`) and leaves the record alone. LEASE_MS is the lease's end by Redis' clock.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from controlplane.core.model import (
    Assignment,
    Decision,
    Location,
    NodeId,
    ParticipantId,
    RegionId,
    Requirements,
    Role,
    RoomId,
    RttEstimate,
    RttSource,
    TrackStatus,
)
from controlplane.store.packing import RTT, PackedCandidates, PackedRtts, packed

VERSION = b"1"

AS_DECIDED, OWN = b"=", b"+"
"""Begin a client part whose round trips are those of the decision's candidates, and one that has its own."""

LEVEL, WINDOW, MEMORY = 1, -12, 5
"""zlib's fastest level, raw deflate (RFC 1951), and 4 KiB of window instead of 32: texts are smaller than that, and
most of the time of a small text goes into clearing memory. A join waits for it."""

_LENGTH = struct.Struct("<I")

_LISTS, _NAMES = "\x1e", "\x1f"
"""Between lists of names, and between names, which have no such characters."""


class RecordError(ValueError):
    """A record that this release cannot read."""


class Parts(NamedTuple):
    """The three parts of a record."""

    static: bytes
    client: bytes
    node: bytes


class Header(NamedTuple):
    """The line that scripts read, and what is behind it."""

    epoch: int
    lease_ms: int
    session: str
    parts: Parts


def encode(assignment: Assignment) -> Parts:
    """Return the parts of an assignment."""
    assignment = packed(assignment)
    return Parts(_static(assignment), encode_client(assignment), encode_node(assignment))


def encode_client(assignment: Assignment) -> bytes:
    """Return the part that the client's joins write."""
    rtts, candidates = PackedRtts.of(assignment.rtts), assignment.decision.candidates
    if isinstance(candidates, PackedCandidates) and rtts.block is candidates.block:
        return VERSION + AS_DECIDED + assignment.network.encode()
    if rtts.width != RTT or rtts.has_source(RttSource.SESSION):
        rtts = PackedRtts.of(
            {r: rtt for r, rtt in rtts.items() if rtt.source is not RttSource.SESSION}
        )
    return VERSION + OWN + _squeeze(rtts.block, _dump([assignment.network, rtts.names]))


def encode_node(assignment: Assignment) -> bytes:
    """Return the part that reports write."""
    rtts = PackedRtts.of(assignment.rtts)
    in_call = rtts.items() if rtts.has_source(RttSource.SESSION) else ()
    measured = [
        (region, round(rtt.rtt_ms, 3), round(rtt.spread_ms, 3), round(rtt.age_s, 3))
        for region, rtt in in_call
        if rtt.source is RttSource.SESSION
    ]
    if not (assignment.live or assignment.tracks or measured):
        return b""
    tracks = [(one.id, one.kind, one.codec) for one in assignment.tracks]
    return VERSION + _dump([int(assignment.live), tracks, measured])


def parse(record: bytes) -> Header:
    """Return what the record's line says, and its parts. Raises RecordError."""
    line, newline, rest = record.partition(b"\n")
    try:
        *numbers, session = line.decode("ascii").split(" ")
        epoch, lease_ms, static, client = map(int, numbers)
    except ValueError:
        raise RecordError(f"no record: {line[:60]!r}") from None
    if not newline or static < 0 or client < 0 or static + client > len(rest):
        raise RecordError(f"a record that was cut: {line[:60]!r}")
    parts = Parts(rest[:static], rest[static : static + client], rest[static + client :])
    return Header(epoch, lease_ms, session, parts)


def decode(
    header: Header, room: RoomId, participant: ParticipantId, *, expires_at: float
) -> Assignment:
    """Return the assignment. `expires_at` is the lease's end by the caller's clock. Raises RecordError."""
    try:
        return _decode(header, room, participant, expires_at)
    except (ValueError, LookupError, TypeError, struct.error, zlib.error) as error:
        what = f"a record of {room}/{participant} that this release cannot read"
        raise RecordError(f"{what}: {type(error).__name__}: {error}") from error


# --- inside -------------------------------------------------------------------------------------


def _static(one: Assignment) -> bytes:
    decision, place = one.decision, one.decision.location
    candidates = PackedCandidates.of(decision.candidates)
    told = [(index, why, dict(nodes)) for index, (why, nodes) in candidates.told.items()]
    rest = [
        one.role, one.assigned_at, one.moved_at, decision.decided_at,
        place and (place.lat, place.lon, place.radius_km, place.country_only),
        decision.location_source, decision.others, decision.because, decision.fallbacks,
        sorted(one.require.residency), sorted(one.require.regions), sorted(one.unreachable), told,
    ]  # fmt: skip
    places = (one.node, one.region, decision.node, decision.region)
    lists = (places, candidates.regions, candidates.nodes, candidates.terms)
    # Joining names is ten times as fast as JSON, and they are most of the text.
    names = _LISTS.join([_NAMES.join(names) for names in lists])
    return VERSION + _squeeze(candidates.block, f"{names}\n".encode() + _dump(rest))


def _decode(header: Header, room: RoomId, participant: ParticipantId, expires: float) -> Assignment:
    block, text = _spread(_of_this_version(header.parts.static))
    names, _, rest = text.partition(b"\n")
    places, *lists = (names.split(_NAMES) for names in names.decode().split(_LISTS))
    node, region, decided_node, decided_region = places
    regions_of, nodes_of, terms = (tuple(one) if one != [""] else () for one in lists)
    (
        role, assigned_at, moved_at, decided_at, place, place_source, others, because, fallbacks,
        residency, regions, unreachable, told,
    ) = json.loads(rest)  # fmt: skip
    told_of = {index: (why, nodes) for index, why, nodes in told}
    nodes_of = nodes_of or ("",) * len(regions_of)
    candidates = PackedCandidates(regions_of, nodes_of, terms, block, told_of)
    rtts, network = _client(_of_this_version(header.parts.client), candidates)
    live, tracks, measured = _node(header.parts.node)
    return Assignment(
        room=room,
        participant=participant,
        session=header.session,
        role=Role(role),
        node=NodeId(node),
        region=RegionId(region),
        epoch=header.epoch,
        assigned_at=assigned_at,
        expires_at=expires,
        decision=Decision(
            NodeId(decided_node),
            RegionId(decided_region),
            tuple(because),
            candidates,
            tuple(fallbacks),
            decided_at,
            Location(*place) if place else None,
            place_source,
            others,
        ),
        rtts=PackedRtts.of({**rtts, **measured}) if measured else rtts,
        require=Requirements(frozenset(residency), frozenset(regions)),
        tracks=tracks,
        live=live,
        moved_at=moved_at,
        network=network,
        unreachable=frozenset(unreachable),
    )


def _client(part: bytes, candidates: PackedCandidates) -> tuple[PackedRtts, str]:
    if part.startswith(AS_DECIDED):
        return candidates.rtts(), part[len(AS_DECIDED) :].decode()
    if not part.startswith(OWN):
        raise ValueError(f"no client part: {part[:1]!r}")
    block, text = _spread(part[len(OWN) :])
    network, names = json.loads(text)
    return PackedRtts(tuple(names), block), network


def _node(
    part: bytes,
) -> tuple[bool, tuple[TrackStatus, ...], Mapping[RegionId, RttEstimate]]:
    if not part:
        return False, (), {}
    live, tracks, measured = json.loads(_of_this_version(part))
    return (
        bool(live),
        tuple(TrackStatus(*one) for one in tracks),
        {
            RegionId(region): RttEstimate(rtt, spread, RttSource.SESSION, age)
            for region, rtt, spread, age in measured
        },
    )


def _squeeze(block: bytes, text: bytes) -> bytes:
    """Return numbers and text as one; numbers hardly become smaller, and take most of the time to try."""
    squeezer = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW, MEMORY)
    return b"".join((_LENGTH.pack(len(block)), block, squeezer.compress(text), squeezer.flush()))


def _spread(part: bytes) -> tuple[bytes, bytes]:
    (length,) = _LENGTH.unpack_from(part)
    behind = _LENGTH.size + length
    return part[_LENGTH.size : behind], zlib.decompress(part[behind:], WINDOW)


def _of_this_version(part: bytes) -> bytes:
    if part[:1] != VERSION:
        raise ValueError(f"form {part[:1]!r} instead of {VERSION!r}")
    return part[1:]


def _dump(text: object) -> bytes:
    return _to_json(text).encode()


_to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
