"""Reports of a hostile node."""

import time

import pytest
from thalweg.v1 import common_pb2, node_pb2

from controlplane.adapters.wire import report_from_wire
from controlplane.errors import InvalidInputError


def test_a_report_full_of_tracks_is_refused_before_it_costs_anything() -> None:
    tracks = [node_pb2.TrackReport(kind=common_pb2.MEDIA_KIND_AUDIO)] * 40
    people = [
        node_pb2.ParticipantReport(room=f"r{index}", participant="p", tracks=tracks)
        for index in range(20_000)
    ]
    report = node_pb2.Report(participants=people)
    begun = time.perf_counter()
    with pytest.raises(InvalidInputError) as caught:
        report_from_wire(report)
    assert caught.value.code == "bad-report"
    assert "800000 tracks" in caught.value.detail
    assert time.perf_counter() - begun < 0.5
