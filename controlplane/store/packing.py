"""Decisions in little memory: what a seat keeps of its reasoning, as bytes that are read when somebody asks.

A decision over 16 regions is 10 KB of Python objects, and nearly nobody ever asks for it. Packed it is less than one:
numbers become whole microseconds in one block, names are shared by all seats that have the same. Reading an entry
makes the same named tuples again, so the rest of the program sees sequences and mappings as before.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import overload

from controlplane.core.big_dict import BigDict
from controlplane.core.model import (
    Assignment,
    Candidate,
    NodeId,
    RegionId,
    RttEstimate,
    RttSource,
)

Names = tuple[str, ...]
Told = Mapping[int, tuple[str, Mapping[NodeId, str]]]
"""Index of a candidate → its refusal ("" for none) and its refused nodes; only of those that have any."""

RTT = 4
"""Numbers of one round trip: microseconds, microseconds of spread, milliseconds of age, and its source."""

NONE = -(2**31)
"""The number that stands for None."""

MAX_SHARED = 20_000
"""Tuples of names that are kept to be shared. There are as many as ways in which regions and their best nodes rank; a
fleet that has more shares those that it met first."""

_NONE = NONE / 1000
_MOST = 2**31 - 1
_SOURCES = tuple(RttSource)
_SOURCE_NUMBERS = {source: number / 1000 for number, source in enumerate(_SOURCES)}
_ONE_RTT = struct.Struct(f"<{RTT}i")
_NO_NODES: Mapping[NodeId, str] = MappingProxyType({})
_NOTHING_TOLD: Told = MappingProxyType({})

_shared: BigDict[Names, Names] = BigDict()


def _share(names: Names) -> Names:
    """Return an equal tuple that others hold, too."""
    found = _shared.get(names)
    if found is None:
        found = names
        if len(_shared) < MAX_SHARED:
            _shared[names] = names
    return found


class PackedRtts(Mapping[RegionId, RttEstimate]):
    """Round trips by region, to the microsecond."""

    __slots__ = ("block", "names", "width")

    def __init__(self, names: Names, block: bytes, width: int = RTT) -> None:
        """`block` has `width` numbers of each region, in order of `names`; the first of them are the round trip's."""
        self.names = _share(names)
        self.block = block
        self.width = width

    @classmethod
    def of(cls, rtts: Mapping[RegionId, RttEstimate]) -> "PackedRtts":
        """Return these round trips packed."""
        if isinstance(rtts, PackedRtts):
            return rtts
        return cls(tuple(rtts), _pack([n for one in rtts.values() for n in _numbers(one)]))

    def has_source(self, source: RttSource) -> bool:
        """Return whether any of them has this source."""
        # The source is the last number of a round trip, and its first byte says it all.
        return _SOURCES.index(source) in self.block[4 * (RTT - 1) :: 4 * self.width]

    def __getitem__(self, region: RegionId) -> RttEstimate:
        try:
            index = self.names.index(region)
        except ValueError:
            raise KeyError(region) from None
        return _rtt(_ONE_RTT.unpack_from(self.block, 4 * index * self.width))

    def __iter__(self) -> Iterator[RegionId]:
        return map(RegionId, self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return repr(dict(self))


class PackedCandidates(Sequence[Candidate]):
    """The candidates of a decision, in its order."""

    __slots__ = ("block", "nodes", "regions", "terms", "told")

    def __init__(
        self, regions: Names, nodes: Names, terms: Names, block: bytes, told: Told
    ) -> None:
        """`block` has, of each candidate, the numbers of its round trip, its score, and one of each of `terms`.

        A node is "" for a candidate without one.
        """
        self.regions, self.nodes, self.terms = _share(regions), _share(nodes), _share(terms)
        self.block = block
        self.told = told or _NOTHING_TOLD

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> "PackedCandidates":
        """Return these candidates packed."""
        if isinstance(candidates, PackedCandidates):
            return candidates
        terms = tuple(dict.fromkeys([name for one in candidates for name in one.terms]))
        in_order = list(terms)
        numbers: list[float] = []
        for _, _, (rtt_ms, spread_ms, source, age_s), score, found, _, _ in candidates:
            numbers += (rtt_ms, spread_ms, age_s, _SOURCE_NUMBERS[source])
            numbers.append(_NONE if score is None else score)
            # Mostly all have the same terms in the same order.
            same = list(found) == in_order
            numbers += found.values() if same else [found.get(name, _NONE) for name in terms]
        told = {
            index: (one.refusal or "", one.refused)
            for index, one in enumerate(candidates)
            if one.refusal is not None or one.refused
        }
        return cls(
            tuple([one.region for one in candidates]),
            tuple([one.node or "" for one in candidates]),
            terms,
            _pack(numbers),
            told,
        )

    def rtts(self) -> PackedRtts:
        """Return the round trips of all candidates, which take no further memory."""
        return PackedRtts(self.regions, self.block, self._width)

    @property
    def _width(self) -> int:
        return RTT + 1 + len(self.terms)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        if isinstance(index, slice):
            return tuple(self[one] for one in range(*index.indices(len(self))))
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(index)
        width = self._width
        numbers = struct.unpack_from(f"<{width}i", self.block, 4 * at * width)
        refusal, refused = self.told.get(at, ("", _NO_NODES))
        node, score = self.nodes[at], numbers[RTT]
        return Candidate(
            RegionId(self.regions[at]),
            NodeId(node) if node else None,
            _rtt(numbers[:RTT]),
            None if score == NONE else score / 1000,
            {
                name: number / 1000
                for name, number in zip(self.terms, numbers[RTT + 1 :], strict=True)
                if number != NONE
            },
            refusal or None,
            refused,
        )

    def __len__(self) -> int:
        return len(self.regions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # candidates hold mappings, which have no hash either

    def __repr__(self) -> str:
        return repr(tuple(self))


def packed(assignment: Assignment) -> Assignment:
    """Return the assignment with its candidates and round trips packed; figures are rounded to the microsecond."""
    decision, rtts = assignment.decision, assignment.rtts
    if isinstance(decision.candidates, PackedCandidates):
        if isinstance(rtts, PackedRtts):
            return assignment
        return replace(assignment, rtts=PackedRtts.of(rtts))
    candidates = PackedCandidates.of(decision.candidates)
    # Mostly all regions have nodes, and the candidates say all that is known.
    same = len(rtts) == len(candidates) and all(
        rtts.get(one.region) == one.rtt for one in decision.candidates
    )
    return replace(
        assignment,
        decision=replace(decision, candidates=candidates),
        rtts=candidates.rtts() if same else PackedRtts.of(rtts),
    )


def _pack(numbers: Sequence[float]) -> bytes:
    """Return thousandths of these numbers as 32 bits each, little-endian; what does not fit is cut."""
    form = f"<{len(numbers)}i"
    try:
        return struct.pack(form, *[round(number * 1000) for number in numbers])
    except (struct.error, OverflowError, ValueError):
        return struct.pack(form, *[_cut(number * 1000) for number in numbers])


def _cut(number: float) -> int:
    """Return the whole number within 32 bits that is nearest; not a number is the largest, as what is unknown."""
    return _MOST if number != number else round(max(NONE, min(_MOST, number)))  # noqa: PLR0124  NaN


def _numbers(rtt: RttEstimate) -> tuple[float, float, float, float]:
    rtt_ms, spread_ms, source, age_s = rtt
    return rtt_ms, spread_ms, age_s, _SOURCE_NUMBERS[source]


def _rtt(numbers: Sequence[int]) -> RttEstimate:
    rtt, spread, age, source = numbers
    return RttEstimate(rtt / 1000, spread / 1000, _SOURCES[source], age / 1000)
