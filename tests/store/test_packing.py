"""Decisions as bytes: what comes back is what went in, to the microsecond, in little memory."""

import sys
import tracemalloc
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.model import (
    Assignment,
    Candidate,
    Decision,
    NodeId,
    ParticipantId,
    RegionId,
    Requirements,
    RoomId,
    RttEstimate,
    RttSource,
    TrackStatus,
)
from controlplane.store.packing import NONE, PackedCandidates, PackedRtts, packed
from controlplane.store.redis import records
from controlplane.store.redis.records import RecordError
from controlplane.store.view import View
from tests.store.build import NOW, proposal

names = st.text("abc-1", min_size=1, max_size=9)
sentences = st.text(max_size=30)
# What microseconds of 32 bits hold; beyond, numbers are cut.
numbers = st.integers(-(10**9), 10**9).map(lambda micro: micro / 1000)
rtts = st.builds(RttEstimate, numbers, numbers, st.sampled_from(RttSource), numbers)
candidates = st.builds(
    Candidate,
    names.map(RegionId),
    st.none() | names.map(NodeId),
    rtts,
    st.none() | numbers,
    st.dictionaries(names, numbers, max_size=4),
    st.none() | sentences.filter(bool),
    st.dictionaries(names.map(NodeId), sentences, max_size=2),
)


def with_decision(found: list[Candidate], known: dict[RegionId, RttEstimate]) -> Assignment:
    one = proposal()
    return replace(one, decision=replace(one.decision, candidates=tuple(found)), rtts=known)


@given(st.lists(candidates, max_size=6), st.dictionaries(names.map(RegionId), rtts, max_size=5))
def test_packed_is_equal(found: list[Candidate], known: dict[RegionId, RttEstimate]) -> None:
    one = with_decision(found, known)
    small = packed(one)
    assert small == one
    assert packed(small) is small
    assert tuple(small.decision.candidates[1:]) == tuple(found[1:])
    with pytest.raises(IndexError):
        small.decision.candidates[len(found)]
    assert small.rtts.get(RegionId("nowhere!")) is None


@given(
    st.lists(candidates, max_size=6),
    st.dictionaries(names.map(RegionId), rtts, max_size=5),
    st.booleans(),
    st.lists(sentences, max_size=3),
    st.sampled_from(["", "203.0.113.0/24", "2001:db8:7::/48"]),
)
def test_records_come_back(
    found: list[Candidate],
    known: dict[RegionId, RttEstimate],
    live: bool,
    because: list[str],
    network: str,
) -> None:
    one = with_decision(found, known)
    one = replace(
        one,
        decision=replace(one.decision, because=tuple(because), fallbacks=(NodeId("x"),)),
        live=live,
        tracks=(TrackStatus("t", "audio", "opus"),) if live else (),
        network=network,
        epoch=7,
        require=Requirements(frozenset({"eu"}), frozenset({RegionId("r")})),
        unreachable=frozenset({NodeId("n")}),
        moved_at=NOW,
    )
    assert read(written(one)) == one


def written(one: Assignment) -> bytes:
    parts = records.encode(one)
    head = f"{one.epoch} 5 {len(parts.static)} {len(parts.client)} {one.session}\n"
    return head.encode() + b"".join(parts)


def read(record: bytes) -> Assignment:
    one = proposal()
    return records.decode(
        records.parse(record), one.room, one.participant, expires_at=one.expires_at
    )


@given(st.data())
def test_a_broken_record_is_an_error_and_no_crash(data: st.DataObject) -> None:
    good = written(replace(proposal(), epoch=7))
    cut = data.draw(st.integers(0, len(good)))
    noise = data.draw(st.binary(max_size=20))
    with suppress(RecordError):
        read(good[:cut] + noise)


def test_numbers_beyond_32_bits_are_cut() -> None:
    huge = RttEstimate(float("inf"), 1e12, RttSource.UNKNOWN, -1e12)
    (found,) = PackedRtts.of({RegionId("r"): huge}).values()
    assert (found.rtt_ms, found.spread_ms) == (2147483.647, 2147483.647)
    assert found.age_s == NONE / 1000
    (nan,) = PackedRtts.of({RegionId("r"): huge._replace(rtt_ms=float("nan"))}).values()
    assert nan.rtt_ms == 2147483.647


def test_sources_are_found_without_reading_all() -> None:
    region = RegionId("r")
    probe, session = (RttEstimate(5.0, 1.0, one) for one in (RttSource.PROBE, RttSource.SESSION))
    known = PackedCandidates.of([Candidate(region, None, probe, 1.0, {"a": 0.0})]).rtts()
    assert not known.has_source(RttSource.SESSION)
    assert known.has_source(RttSource.PROBE)
    assert PackedRtts.of({region: probe, RegionId("s"): session}).has_source(RttSource.SESSION)


def test_a_seat_of_16_regions_takes_less_than_3_kb() -> None:
    view = View()
    regions = [RegionId(f"eu-region-{number:02}") for number in range(16)]

    def seat(number: int) -> Assignment:
        """Nothing is shared with the seats of others but the names of regions and nodes."""
        found = [
            Candidate(
                region,
                NodeId(f"{region}-node-{number % 3}"),
                RttEstimate(number + index / 7, 3.0 + index, RttSource.PROBE, 0.5),
                number * 1.1 + index,
                {"delay": number + 0.1, "edge": index * 1.0, "load": 0.25},
            )
            for index, region in enumerate(regions[number % 16 :] + regions[: number % 16])
        ]
        because = tuple(f"reason {number} of {one}: eu-region is near" for one in range(3))
        one = proposal(f"participant-{number}", room=f"room-{number // 5}", session=f"s-{number}")
        decision = Decision(found[0].node or NodeId(""), found[0].region, because, found, (), NOW)
        return replace(one, decision=decision, rtts={c.region: c.rtt for c in found})

    for number in range(100):
        view.put(packed(seat(number)))
    tracemalloc.start()
    for number in range(100, 1100):
        view.put(packed(seat(number)))
    each = tracemalloc.get_traced_memory()[0] / 1000
    tracemalloc.stop()
    assert each < 3000, f"{each:.0f} bytes"
    assert sys.getsizeof(view.room(RoomId("room-30"))) < 200
    assert view.live((RoomId("room-30"), ParticipantId("participant-150"))) is not None
