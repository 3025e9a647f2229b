"""Reports of a hostile node."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thalweg.v1 import common_pb2, node_pb2

from controlplane.adapters.roster import entries
from controlplane.adapters.wire import ReportReader
from controlplane.errors import InvalidInputError


def test_a_report_full_of_tracks_is_refused_before_it_costs_anything() -> None:
    tracks = [node_pb2.TrackReport(kind=common_pb2.MEDIA_KIND_AUDIO)] * 40
    people = [
        node_pb2.ParticipantReport(room=f"r{index}", participant="p", tracks=tracks)
        for index in range(20_000)
    ]
    roster = node_pb2.Roster(participants=people).SerializeToString()
    begun = time.perf_counter()
    with pytest.raises(InvalidInputError) as caught:
        ReportReader().read(node_pb2.Report(roster=roster))
    assert caught.value.code == "bad-report"
    assert "tracks; at most 40000 fit" in caught.value.detail
    assert time.perf_counter() - begun < 0.5


def test_a_roster_is_read_once_while_it_stays_the_same() -> None:
    reader = ReportReader()
    people = [node_pb2.ParticipantReport(room="r", participant=name, epoch=1) for name in "ab"]
    roster = node_pb2.Roster(participants=people).SerializeToString()
    first, second = (
        reader.read(
            node_pb2.Report(
                sequence=number, roster=roster, figures=node_pb2.Figures(rtt_ms=[5.0, 0.0])
            )
        )
        for number in (1, 2)
    )
    assert first.participants is second.participants
    assert first.client_rtts == [5.0, 0.0]
    other = reader.read(node_pb2.Report(roster=b"", figures=node_pb2.Figures(rtt_ms=[5.0])))
    assert (other.participants, other.client_rtts) == ((), []), "one figure is of nobody"
    with pytest.raises(InvalidInputError):
        reader.read(node_pb2.Report(roster=b"\xff"))
    assert reader.read(node_pb2.Report(roster=roster)).participants == first.participants


def test_of_a_roster_that_changed_only_what_is_new_is_read_again() -> None:
    def roster(*names: str) -> node_pb2.Report:
        people = [node_pb2.ParticipantReport(room="r", participant=name, epoch=1) for name in names]
        links = [node_pb2.LinkReport(room="r", to_node="n", state=node_pb2.LINK_STATE_UP)]
        return node_pb2.Report(
            roster=node_pb2.Roster(participants=people, links=links).SerializeToString()
        )

    reader = ReportReader()
    before = reader.read(roster("ana", "bo", "cem"))
    after = reader.read(roster("cem", "dan", "ana"))
    assert [one.participant for one in after.participants] == ["cem", "dan", "ana"]
    assert after.participants[0] is before.participants[2]
    assert after.participants[2] is before.participants[0]
    assert after.links[0] is before.links[0]


@given(st.binary(max_size=60))
def test_a_roster_is_cut_where_protobuf_cuts_it(junk: bytes) -> None:
    people = [node_pb2.ParticipantReport(room="r" * size, epoch=size) for size in (0, 1, 127, 128)]
    whole = node_pb2.Roster(participants=people, links=[node_pb2.LinkReport(room="r")])
    found = list(entries(whole.SerializeToString()))
    assert [
        node_pb2.ParticipantReport.FromString(one) for number, one in found if number == 1
    ] == people
    try:
        cut = list(entries(junk))
    except ValueError:
        return
    assert sum(len(one) for _, one in cut) <= len(junk)
