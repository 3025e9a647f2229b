from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.delay import SFU_MS, mean_delay_ms, room_delay
from controlplane.core.mesh import between
from controlplane.core.model import Assignment, Node, Role
from controlplane.core.sums import access_rtt, sum_up
from tests.core.build import CITIES, node, one_node_each, seat

VIEW = one_node_each()
NODES = [*VIEW.nodes.values(), node("eu-frankfurt-2", "eu-frankfurt")]
people = st.lists(
    st.tuples(st.sampled_from(NODES), st.integers(0, 300), st.sampled_from(Role)), max_size=7
)


def by_hand(everybody: list[Assignment]) -> list[float]:
    """Every pair, one by one."""
    delays = []
    for a, b in permutations(everybody, 2):
        if a.role is not Role.PUBLISHER:
            continue
        same = a.node == b.node
        link = 0.0 if same else between(VIEW.region_rtt, a.region, b.region)
        delays.append(
            (access_rtt(a).rtt_ms + link + access_rtt(b).rtt_ms) / 2 + SFU_MS * (1 if same else 2)
        )
    return delays


@given(people)
def test_summing_up_by_node_gives_what_every_pair_gives(
    seats: list[tuple[Node, int, Role]],
) -> None:
    everybody = [
        seat(f"p{i}", on, float(rtt), role=role) for i, (on, rtt, role) in enumerate(seats)
    ]
    delays = by_hand(everybody)
    found = room_delay(everybody, VIEW.region_rtt)
    mean = mean_delay_ms(sum_up(everybody), VIEW.region_rtt)
    assert mean == (found.mean_ms if found else None)
    if not delays:
        assert found is None
        return
    assert found is not None
    assert found.mean_ms == pytest.approx(sum(delays) / len(delays))
    assert found.worst_ms == pytest.approx(max(delays))


def test_a_room_without_a_pair_has_no_delay() -> None:
    here = VIEW.nodes[next(iter(VIEW.nodes))]
    assert len(CITIES) == len(VIEW.nodes)
    assert room_delay([], VIEW.region_rtt) is None
    assert room_delay([seat("ana", here)], VIEW.region_rtt) is None
    viewers = [seat(who, here, role=Role.VIEWER) for who in ("ana", "bob")]
    assert room_delay(viewers, VIEW.region_rtt) is None
