from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.cascade import diff, plan, validate
from controlplane.core.model import Node, NodeId, NodeState, Role, RoomId
from controlplane.core.session import LinkSpec
from tests.core.build import ROOM, node, one_node_each, seat, sums, with_node

VIEW = one_node_each()
FRA, VIR, SIN = (
    VIEW.nodes[NodeId(f"{id_}-1")] for id_ in ("eu-frankfurt", "us-virginia", "ap-singapore")
)


def link(a: Node, b: Node) -> LinkSpec:
    return LinkSpec(ROOM, a.id, b.id)


def test_publishers_on_two_nodes_need_both_directions() -> None:
    assert plan(ROOM, sums(seat("ana", FRA), seat("bob", VIR)), VIEW) == {
        link(FRA, VIR),
        link(VIR, FRA),
    }


def test_a_node_of_viewers_only_receives() -> None:
    people = sums(seat("ana", FRA), seat("bob", VIR, role=Role.VIEWER))
    assert plan(ROOM, people, VIEW) == {link(FRA, VIR)}


def test_one_node_or_only_viewers_need_no_link() -> None:
    assert plan(ROOM, sums(), VIEW) == frozenset()
    assert plan(ROOM, sums(seat("ana", FRA), seat("bob", FRA)), VIEW) == frozenset()
    viewers = sums(seat("ana", FRA, role=Role.VIEWER), seat("bob", VIR, role=Role.VIEWER))
    assert plan(ROOM, viewers, VIEW) == frozenset()


def test_lost_and_unknown_nodes_get_no_links() -> None:
    people = sums(seat("ana", FRA), seat("bob", VIR), seat("cem", node("gone", "eu-paris")))
    view = with_node(VIEW, node(VIR.id, VIR.region, state=NodeState.LOST))
    assert plan(ROOM, people, view) == frozenset()


def test_the_difference_names_what_to_do_and_whom_it_concerns() -> None:
    before = plan(ROOM, sums(seat("ana", FRA), seat("bob", VIR)), VIEW)
    after = plan(ROOM, sums(seat("ana", FRA), seat("cem", SIN)), VIEW)
    change = diff(before, after)
    assert change.added == (link(SIN, FRA), link(FRA, SIN))
    assert change.removed == (link(FRA, VIR), link(VIR, FRA))
    assert change.nodes == {FRA.id, VIR.id, SIN.id}
    assert diff(after, after).nodes == frozenset()


def test_what_is_wrong_with_a_cascade_is_named() -> None:
    people = sums(seat("ana", FRA), seat("bob", VIR))
    good = [link(FRA, VIR), link(VIR, FRA)]
    assert validate(good, ROOM, people, VIEW) == ()
    assert "2 times" in validate([*good, good[0]], ROOM, people, VIEW)[0]
    assert "not connected" in validate(good[:1], ROOM, people, VIEW)[0]
    assert "loop" in validate([*good, link(FRA, FRA)], ROOM, people, VIEW)[0]
    assert "serves nobody" in validate([*good, link(FRA, SIN)], ROOM, people, VIEW)[0]
    other = LinkSpec(RoomId("other"), FRA.id, VIR.id)
    assert "belongs to room other" in validate([*good, other], ROOM, people, VIEW)[0]


nodes = st.builds(
    node,
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.just("eu-paris"),
    state=st.sampled_from(NodeState),
)


@given(
    st.lists(nodes, unique_by=lambda one: one.id, min_size=1),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(Role)), max_size=12),
)
def test_every_plan_is_valid(fleet: list[Node], people: list[tuple[int, Role]]) -> None:
    view = VIEW
    for one in fleet:
        view = with_node(view, one)
    crowd = sums(
        *(seat(f"p{i}", fleet[at % len(fleet)], role=role) for i, (at, role) in enumerate(people))
    )
    assert validate(plan(ROOM, crowd, view), ROOM, crowd, view) == ()
