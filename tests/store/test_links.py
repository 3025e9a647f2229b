"""Links as two replicas hear of them: one from the node's reports, the other one by one."""

from controlplane.core.model import LinkStatus, NodeId, RoomId
from controlplane.core.session import NO_FIGURES, LinkFigures, LinkReport
from controlplane.store.links import Links

ROOM, OTHER = RoomId("r"), RoomId("other")
FRA, VIR, SIN = NodeId("fra-1"), NodeId("vir-1"), NodeId("sin-1")
UP = LinkReport(ROOM, VIR, "up", ("t1",))


def test_what_is_told_one_by_one_is_known() -> None:
    links = Links()
    links.tell(FRA, (ROOM, VIR), UP)
    links.tell(FRA, (ROOM, SIN), LinkReport(ROOM, SIN, "down"))
    links.tell(FRA, (OTHER, SIN), LinkReport(OTHER, SIN, "up"))
    links.tell(FRA, (ROOM, SIN), None)
    links.tell(FRA, (OTHER, SIN), None)
    links.tell(SIN, (OTHER, VIR), None)
    assert links.of_room(ROOM) == [LinkStatus(ROOM, FRA, VIR, "up", ("t1",))]
    assert links.of_room(OTHER) == []


def test_a_node_that_moves_here_replaces_what_others_told_of_it() -> None:
    links = Links()
    links.tell(FRA, (OTHER, SIN), LinkReport(OTHER, SIN, "up"))
    assert links.say(FRA, [UP], LinkFigures([5], [1], [0])) == {
        (OTHER, SIN): LinkReport(OTHER, SIN, "up")
    }
    assert links.of_room(OTHER) == []
    assert links.of_room(ROOM) == [LinkStatus(ROOM, FRA, VIR, "up", ("t1",), 5, 1, 0)]


def test_a_node_that_moves_away_keeps_what_the_other_replica_does_not_tell_anew() -> None:
    links = Links()
    links.say(FRA, [UP, LinkReport(OTHER, SIN, "up")], LinkFigures([5, 6], [0, 0], [0, 0]))
    links.tell(FRA, (OTHER, SIN), LinkReport(OTHER, SIN, "down"))
    assert links.of_room(ROOM) == [LinkStatus(ROOM, FRA, VIR, "up", ("t1",))], (
        "figures are not told"
    )
    assert links.of_room(OTHER) == [LinkStatus(OTHER, FRA, SIN, "down")]


def test_only_figures_are_no_news_to_others() -> None:
    links, reports = Links(), [UP]
    assert links.say(FRA, reports, NO_FIGURES) == {}
    assert links.say(FRA, reports, LinkFigures([7], [0], [0])) is None
    assert [one.packets for one in links.of_room(ROOM)] == [7]
    links.drop(FRA)
    assert links.of_room(ROOM) == []
    assert links.of(FRA) == {}
