"""What live calls teach: round trips by client network and region, for the next client of that network.

A network is a /24 (IPv4) or a /48 (IPv6): the longest prefixes that routers exchange, so that everything in one
mostly takes one way. The rules:

1. One session, one vote. A session that is measured again replaces its own vote and never gets a second one.
2. The figure is the median of the last VOTES sessions. One session, however wild, cannot take it past what the
   others say; a lie needs a majority of people, who can look further away to an edge that measures them, never
   nearer. Of two, the older stands until a third decides.
3. Nothing is sure: the spread covers how far sessions of the network differ, how few they are, and how long ago the
   last one was. What is so old that distance alone says as much is not answered.
4. Bounded: the networks that were confirmed least recently make room, and so do the regions of a network.

Memory is the point of the layout: a network is one `bytes` in a dict, 21 bytes a region. The dict is cut into parts,
because a dictionary of a million entries stops everything for a tenth of a second when it grows.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from math import sqrt
from zlib import crc32

from controlplane.core.addresses import parse_address
from controlplane.core.mesh import usable_rtt
from controlplane.core.model import RegionId, RttEstimate, RttSource

MAX_PREFIXES = 1_000_000
"""Networks that are remembered: 190 MB when each is full. The IPv4 Internet announces about 12 million /24s."""

REGIONS_EACH = 3
"""Regions per network: as many as a client is asked to measure; people of one network rarely sit in more."""

VOTES = 5
"""Sessions that are remembered: their median stands against two that are wrong."""

VOTES_LAST_S = 6 * 3600.0
"""After a silence this long the votes of before count as one: a route may have changed, and two sessions of today
then decide against a busy yesterday."""

FORGET_S = 14 * 86_400.0
"""By then the drift alone is 46 ms, which is what the distance model's error is: it knows as much."""

DRIFT_MS_PER_SQRT_HOUR = 2.5
"""Round trips wander as routes and loads change: 2.5 ms within an hour, 12 within a day, 32 within a week. Between
data centres they stand still for days; phones change their nearest server within a minute in a tenth of all
cases. Networks of homes and offices lie between, nearer to the first."""

ACCESS_SPREAD_MS = 8.0
"""Lines of one network differ: fibre adds 2 ms, cable and DSL 10 to 20, Wi-Fi a few more."""

PATH_SPREAD = 0.1
"""Addresses of one network may take different long ways, a tenth longer or shorter."""

PRIOR_SESSIONS = 2.0
"""What is assumed of a network's spread weighs as much as so many sessions."""

MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution is 1 / 1.4826 of its standard deviation."""

PART = 1_250
"""Networks in one dictionary of the table, about: one of 2048 slots, as small as it gets for what it holds, takes up
to 1365, and parts differ by a few dozen."""

_QUANTUM_MS = 0.25

_RECORD = struct.Struct(f"<HI{VOTES}H{VOTES}s")
"""Region's number, second of the last vote, votes in quanta by order of arrival, their sessions' tags (0: no vote)."""

_ELDERS = 255
"""Tag of the vote into which old ones were merged; sessions have 1 to 254."""

_MAX_SECOND = 2**32 - 1
_MAX_REGIONS = 2**16


@dataclass(frozen=True, slots=True)
class RttSample:
    """A round trip that an edge measured in one session."""

    network: str
    """As `network_of` writes it."""
    region: RegionId
    rtt_ms: float
    session: str
    """Whatever stays the same for one person: the same text never votes twice."""


def network_of(address: str | None) -> str:
    """Return the network of an address, such as 203.0.113.0/24 or 2001:db8:7::/48; "" for a malformed one or None.

    IPv4-mapped addresses count as IPv4. Private ones are taken as they come: a network is what the caller says.
    """
    ip = parse_address(address or "")
    if ip is None:
        return ""
    host_bits, prefix = (8, 24) if isinstance(ip, IPv4Address) else (80, 48)
    return f"{type(ip)(int(ip) >> host_bits << host_bits)}/{prefix}"


class LearnedRtts:
    """The table. Times are seconds since 1970; a clock that goes back makes nothing older than it is."""

    def __init__(self, max_prefixes: int = MAX_PREFIXES) -> None:
        self._max = max_prefixes
        self._count = 0
        self._parts: list[dict[int, bytes]] = [{} for _ in range(max(1, max_prefixes // PART))]
        self._numbers: dict[RegionId, int] = {}
        self._regions: list[RegionId] = []

    def __len__(self) -> int:
        return self._count

    def note(
        self, network: str, region: RegionId, rtt_ms: float, *, session: str, now: float
    ) -> None:
        """Take in one session's round trip in milliseconds; what cannot be one, or has no network, changes nothing."""
        key, number = _key(network), self._number(region)
        if key is None or number is None or not usable_rtt(rtt_ms):
            return
        part = self._parts[key % len(self._parts)]
        records = part.get(key, b"")
        begin = _find(records, number)
        before = records[begin : begin + _RECORD.size]
        after = _voted(before, number, _tag(session), rtt_ms, now)
        # The record goes to the end: they are in order of confirmation.
        records = records[:begin] + records[begin + _RECORD.size :] + after
        part[key] = records[-REGIONS_EACH * _RECORD.size :]
        if len(records) == _RECORD.size and not before:
            self._count += 1
            if self._count > self._max:
                self._make_room(key % len(self._parts))

    def look(self, network: str, *, now: float) -> Mapping[RegionId, RttEstimate]:
        """Return what is known of a network, by region; empty for an unknown or malformed one."""
        key = _key(network)
        records = None if key is None else self._parts[key % len(self._parts)].get(key)
        if records is None:
            return {}
        return {
            self._regions[number]: _estimate(quanta[: len(tags.rstrip(b"\0"))], max(0.0, now - at))
            for number, at, *quanta, tags in _RECORD.iter_unpack(records)
            if now - at <= FORGET_S
        }

    def _number(self, region: RegionId) -> int | None:
        number = self._numbers.get(region)
        if number is None and len(self._regions) < _MAX_REGIONS:
            number = self._numbers[region] = len(self._regions)
            self._regions.append(region)
        return number

    def _make_room(self, index: int) -> None:
        """Forget the networks of a part that were confirmed least recently, a sixteenth of them at once.

        Together they cost one sort. The part is built anew: a dictionary that loses and gains entries would double.
        """
        part = self._parts[index]
        newest_last = sorted(part, key=lambda key: _confirmed_at(part[key]))
        excess = max(1, len(part) // 16)
        self._parts[index] = {key: part[key] for key in newest_last[excess:]}
        self._count -= excess


# --- one region of one network ------------------------------------------------------------------


def _find(records: bytes, number: int) -> int:
    """Return where the region's record begins; the end if it has none."""
    wanted = number.to_bytes(2, "little")
    begin = 0
    while begin < len(records) and not records.startswith(wanted, begin):
        begin += _RECORD.size
    return begin


def _confirmed_at(records: bytes) -> int:
    return int.from_bytes(records[2 - _RECORD.size : 6 - _RECORD.size], "little")


def _voted(record: bytes, number: int, tag: int, rtt_ms: float, now: float) -> bytes:
    """Return the region's record with the session's vote in it; `record` is empty for the first."""
    quanta: list[int] = []
    tags = b""
    vote = round(rtt_ms / _QUANTUM_MS)
    if record:
        _, at, *quanta, tags = _RECORD.unpack(record)
        tags = tags.rstrip(b"\0")
        quanta = quanta[: len(tags)]
        if now - at > VOTES_LAST_S:
            quanta, tags = [round(_middle(quanta))], bytes([_ELDERS])
    if tag in tags:
        # In its place: were it put at the end, sessions that take turns would each become the older one.
        quanta[tags.index(tag)] = vote
    else:
        quanta, tags = [*quanta, vote][-VOTES:], (tags + bytes([tag]))[-VOTES:]
    second = min(_MAX_SECOND, max(0, int(now)))
    return _RECORD.pack(number, second, *quanta, *[0] * (VOTES - len(quanta)), tags)


def _middle(values: Sequence[float]) -> float:
    """Return the median; of two the older one, since there is nobody to say which of them is odd."""
    return values[0] if len(values) == 2 else _median(values)


def _median(values: Sequence[float]) -> float:
    """Return what statistics.median does, in a quarter of its time."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _estimate(quanta: Sequence[int], age_s: float) -> RttEstimate:
    """Return the figure with its spread: what a *further* client of this network may see, today."""
    count, middle = len(quanta), _middle(quanta)
    seen = MAD_TO_SIGMA * _QUANTUM_MS * _median([abs(one - middle) for one in quanta])
    rtt = middle * _QUANTUM_MS
    assumed = ACCESS_SPREAD_MS**2 + (PATH_SPREAD * rtt) ** 2
    among = (count * seen**2 + PRIOR_SESSIONS * assumed) / (count + PRIOR_SESSIONS)
    drift = DRIFT_MS_PER_SQRT_HOUR**2 * age_s / 3600
    spread = sqrt(among * (1 + 1 / count) + drift)
    return RttEstimate(rtt, spread, RttSource.LEARNED, age_s)


def _tag(session: str) -> int:
    """Return 1 to 254: one pair of sessions in 254 is taken for one, which costs a vote and nothing else."""
    return 1 + crc32(session.encode(errors="replace")) % 254


# --- keys ---------------------------------------------------------------------------------------

_IPV6 = 1 << 48
"""Set in keys of IPv6 networks, so that they never equal an IPv4 one."""


def _key(network: str) -> int | None:
    """Return the network's bits as a number, None for text that `network_of` did not write.

    By hand, since the ipaddress module takes longer than all the rest of a look-up.
    """
    try:
        if network.endswith(".0/24"):
            a, b, c = map(int, network[:-5].split("."))
            return a << 16 | b << 8 | c if 0 <= a < 256 > b >= 0 <= c < 256 else None
        if network.endswith("::/48"):
            head = network[:-5]
            groups = [int(group, 16) for group in head.split(":")] if head else []
            a, b, c = (*groups, 0, 0, 0)[:3]
            fits = len(groups) <= 3 and min(a, b, c) >= 0 and max(a, b, c) < 1 << 16
            return _IPV6 | a << 32 | b << 16 | c if fits else None
    except ValueError:
        return None
    return None
