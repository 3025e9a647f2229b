import asyncio

import pytest

from controlplane.core.model import NodeId, ParticipantId, Role, RoomId
from controlplane.core.session import LinkFigures, LinkReport
from tests.services.system import ROOM, a_join, three_regions

FRA, VIR, SIN = NodeId("fra-1"), NodeId("vir-1"), NodeId("sin-1")


async def test_a_cascade_changes_with_its_room_and_says_so_once() -> None:
    system = await three_regions()
    await system.join("ana", "frankfurt")
    assert await system.events("cascade.changed") == []
    assert system.wakes.take() == set()
    await system.join("bob", "virginia")
    (changed,) = await system.events("cascade.changed")
    both = [{"from": "fra-1", "to": "vir-1"}, {"from": "vir-1", "to": "fra-1"}]
    assert dict(changed.data) == {"room": ROOM, "links": both}
    assert system.wakes.take() == {FRA, VIR}
    await system.join("cem", "virginia")
    await system.join("bob", "virginia")
    assert len(await system.events("cascade.changed")) == 1
    assert system.wakes.take() == set()
    await system.joins.leave(ROOM, ParticipantId("ana"))
    assert [one.data["links"] for one in await system.events("cascade.changed")] == [both, []]
    assert system.wakes.take() == {FRA, VIR}


async def test_the_cascade_follows_people_off_a_lost_node() -> None:
    system = await three_regions()
    for who in ("frankfurt", "virginia", "singapore"):
        system.arrive(await system.join(who, who))
    await system.kill(system.nodes["sin-1"])
    await system.run(2)
    view = await system.rooms.view(ROOM)
    assert {one.node for one in view.participants} <= {FRA, VIR}
    assert {(one.from_node, one.to_node) for one in view.links} == {(FRA, VIR), (VIR, FRA)}
    assert len((await system.fleet.snapshot(FRA)).links) == 2


async def test_each_node_is_told_its_own_links_of_each_room() -> None:
    system = await three_regions()
    for who in ("frankfurt", "virginia", "singapore"):
        await system.join(who, who)
    await system.joins.join(
        a_join("vic", "virginia", room=RoomId("other"), regions=["us-virginia"], role=Role.VIEWER)
    )
    await system.joins.join(
        a_join("ana", "frankfurt", room=RoomId("other"), regions=["eu-frankfurt"])
    )
    everything = await system.cascades.links(ROOM) | await system.cascades.links(RoomId("other"))
    assert len(everything) == 6 + 1
    for node in (FRA, VIR, SIN):
        told = await system.cascades.of_node(node)
        assert set(told) == {one for one in everything if node in (one.from_node, one.to_node)}


async def test_many_changes_at_once_end_in_what_the_room_needs() -> None:
    system = await three_regions()
    places = ["frankfurt", "virginia", "singapore"]
    await asyncio.gather(*(system.join(f"p{i}", places[i % 3]) for i in range(30)))
    await asyncio.gather(
        *(system.joins.leave(ROOM, ParticipantId(f"p{i}")) for i in range(30) if i % 3 == 2)
    )
    last = (await system.events("cascade.changed"))[-1]
    assert last.data["links"] == [
        {"from": "fra-1", "to": "vir-1"},
        {"from": "vir-1", "to": "fra-1"},
    ]


async def test_a_room_shows_what_is_wanted_beside_what_is_reported() -> None:
    system = await three_regions()
    system.arrive(await system.join("ana", "frankfurt"))
    system.arrive(await system.join("bob", "virginia"))
    fra = system.nodes["fra-1"]
    fra.links = (LinkReport(ROOM, VIR, "up", ("t1",)), LinkReport(ROOM, SIN, "down"))
    fra.link_figures = LinkFigures((100, 0), (3, 0), (1, 0))
    await system.run(0.5)
    view = await system.rooms.view(ROOM)
    assert [one.participant for one in view.participants] == ["ana", "bob"]
    there, back = view.links
    assert (there.from_region, there.to_region) == ("eu-frankfurt", "us-virginia")
    assert (there.state, there.tracks, there.packets, there.repaired, there.lost) == (
        "up",
        ("t1",),
        100,
        3,
        1,
    )
    assert (back.state, back.packets) == ("wanted", 0)
    assert there.rtt_ms == 90
    assert view.mean_ms == pytest.approx(view.worst_ms, abs=0.01)
    assert view.mean_ms == pytest.approx((5 + 90 + 4) / 2 + 2, abs=0.5)


async def test_an_unknown_room_is_an_empty_room() -> None:
    system = await three_regions()
    view = await system.rooms.view(RoomId("nobody-here"))
    assert (view.participants, view.links, view.mean_ms, view.worst_ms) == ((), (), None, None)


async def test_rooms_are_listed_in_pages() -> None:
    system = await three_regions()
    for index in range(5):
        await system.joins.join(a_join("ana", "frankfurt", room=RoomId(f"room-{index}")))
    await system.joins.join(a_join("bob", "virginia", room=RoomId("room-0"), role=Role.PUBLISHER))
    first = await system.rooms.page(limit=2)
    assert [(one.id, one.participants, one.nodes) for one in first.rooms] == [
        ("room-0", 2, (FRA, VIR)),
        ("room-1", 1, (FRA,)),
    ]
    assert first.next == "room-1"
    rest = await system.rooms.page(after=first.next, limit=3)
    assert ([one.id for one in rest.rooms], rest.next) == (["room-2", "room-3", "room-4"], None)
    assert len((await system.rooms.page(limit=0)).rooms) == 1
