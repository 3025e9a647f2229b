import pytest

from controlplane.core.model import RoomId
from controlplane.errors import InvalidInputError, PreconditionFailedError, UnavailableError
from controlplane.services import topologies
from controlplane.services.topologies import Topologies
from controlplane.services.world import MeshRtts
from tests.services.system import System, a_join, parse, three_regions


async def test_before_anything_is_loaded_nothing_can_be_decided() -> None:
    system = System()
    with pytest.raises(UnavailableError) as caught:
        await system.join("ana")
    assert caught.value.code == "no-topology"


async def test_what_the_store_has_wins_over_the_file() -> None:
    system = System()
    assert (await system.topologies.load("eu-frankfurt")).version == 1
    again = await system.topologies.load("us-virginia")
    assert (again.version, again.text) == (1, "eu-frankfurt")


async def test_a_bad_file_stops_the_start() -> None:
    system = System()
    with pytest.raises(InvalidInputError):
        await system.topologies.load("mars")
    assert await system.store.topology() is None


async def test_a_topology_is_replaced_by_who_read_the_current_one() -> None:
    system = await three_regions()
    replaced = await system.topologies.replace("eu-frankfurt eu-paris", expect_version=1)
    assert replaced.version == 2
    assert (await system.topologies.current()) == replaced
    with pytest.raises(PreconditionFailedError) as caught:
        await system.topologies.replace("eu-frankfurt", expect_version=1)
    assert (caught.value.code, caught.value.extra) == ("topology-stale", {"version": 2})
    assert [one.data for one in await system.events("topology.changed")] == [
        {"version": 1},
        {"version": 2},
    ]


async def test_a_bad_topology_never_replaces_a_good_one() -> None:
    system = await three_regions()
    before = await system.topologies.current()
    with pytest.raises(InvalidInputError):
        await system.topologies.replace("eu-frankfurt mars", expect_version=1)
    with pytest.raises(InvalidInputError):
        await system.topologies.dry_run("")
    assert await system.topologies.current() == before


async def test_a_version_of_another_replica_is_taken_and_a_bad_one_is_not() -> None:
    system = await three_regions()
    other = Topologies(system.store, parse, system.clock)
    assert (await other.current()).version == 1
    await system.topologies.replace("eu-frankfurt", expect_version=1)
    assert (await other.current()).version == 2
    await system.store.put_topology("mars", expect_version=2, now=system.clock.now())
    for _ in range(3):
        kept = await other.current()
        assert (kept.version, kept.text) == (2, "eu-frankfurt")
    fresh = Topologies(system.store, parse, system.clock)
    with pytest.raises(UnavailableError):
        await fresh.current()


async def test_a_dry_run_tells_what_would_happen_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = await three_regions()
    for index in range(3):
        await system.joins.join(a_join("ana", "virginia", room=RoomId(f"room-{index}")))
    await system.join("bob", "frankfurt")
    monkeypatch.setattr(topologies, "MAX_DISPLACED", 2)
    diff = await system.topologies.dry_run("eu-frankfurt eu-paris ap-singapore")
    assert diff.version == 1
    assert (diff.added, diff.removed, diff.changed) == (
        ("eu-paris",),
        ("us-virginia",),
        ("eu-frankfurt",),
    )
    assert [(one.room, one.participant, one.region) for one in diff.would_move] == [
        ("room-0", "ana", "us-virginia"),
        ("room-1", "ana", "us-virginia"),
    ]
    assert diff.would_move_total == 3
    assert (await system.topologies.current()).version == 1


async def test_round_trips_are_not_built_anew_for_who_asks_with_an_older_time() -> None:
    system = await three_regions()
    current = await system.topologies.current()
    mesh = MeshRtts()
    built = mesh.matrix(current, {}, now=100.0)
    assert mesh.matrix(current, {}, now=99.5) is built
    assert mesh.matrix(current, {}, now=98.0) is not built
