"""When a room that changed is looked at."""

from itertools import pairwise

from controlplane.core.model import RoomId
from controlplane.services.changed_rooms import (
    LATEST_S,
    LEFT_QUIET_S,
    QUIET_S,
    ChangedRooms,
)
from tests.services.system import Count

NOW = 1_790_000_000.0
A, B, C = RoomId("a"), RoomId("b"), RoomId("c")


def waiting_room(*, max_rooms: int = 100) -> tuple[ChangedRooms, Count]:
    dropped = Count()
    return ChangedRooms(dropped, max_rooms=max_rooms), dropped


def test_a_room_waits_until_it_has_been_quiet() -> None:
    changed, _ = waiting_room()
    changed.note(A, now=NOW)
    changed.note(A, now=NOW + 1.5)
    assert changed.take(10, now=NOW + 1.5 + QUIET_S - 0.1) == []
    assert changed.take(10, now=NOW + 1.5 + QUIET_S) == [A]
    assert len(changed) == 0


def test_a_room_that_is_never_quiet_is_looked_at_all_the_same() -> None:
    changed, _ = waiting_room()
    looks = []
    for quarter in range(100):
        changed.note(A, now=NOW + quarter / 4)
        looks += [quarter / 4 for _ in changed.take(10, now=NOW + quarter / 4)]
    assert looks[0] == LATEST_S
    assert all(b - a <= LATEST_S + 0.25 for a, b in pairwise(looks))


def test_those_who_wait_longest_come_first_and_a_few_at_a_time() -> None:
    changed, _ = waiting_room()
    for index, room in enumerate((A, B, C)):
        changed.note(room, now=NOW + index / 10)
    later = NOW + 10
    assert [changed.take(2, now=later), changed.take(2, now=later)] == [[A, B], [C]]


def test_of_too_many_the_oldest_goes_and_is_counted() -> None:
    changed, dropped = waiting_room(max_rooms=2)
    for room in (A, B, A, C):
        changed.note(room, now=NOW)
    assert (changed.take(10, now=NOW + 10), dropped.value) == ([B, C], 1)


def test_a_second_look_comes_when_it_is_time_or_with_the_next_change() -> None:
    changed, _ = waiting_room()
    changed.again(A, at=NOW + 60)
    changed.again(B, at=NOW + 60)
    changed.note(B, now=NOW + 1)
    changed.again(B, at=NOW + 60)
    assert changed.take(10, now=NOW + 5) == [B]
    assert changed.take(10, now=NOW + 59) == []
    assert changed.take(10, now=NOW + 60) == [A]


def test_a_clock_that_is_set_back_keeps_nobody_waiting() -> None:
    changed, _ = waiting_room()
    changed.note(A, now=NOW)
    changed.note(B, now=NOW)
    changed.note(B, now=NOW - 3600)
    assert changed.take(10, now=NOW - 3600) == [A]
    assert changed.take(10, now=NOW - 3600 + QUIET_S) == [B]


def test_a_room_that_people_leave_is_left_alone_until_nobody_has_left_for_a_while() -> None:
    changed, _ = waiting_room()
    for second in (0, 10, 35):
        changed.left(A, now=NOW + second)
        assert changed.take(10, now=NOW + second + 5) == []
    assert changed.take(10, now=NOW + 35 + LEFT_QUIET_S - 0.1) == []
    assert changed.take(10, now=NOW + 35 + LEFT_QUIET_S) == [A]


def test_who_comes_while_others_leave_is_not_kept_waiting() -> None:
    changed, _ = waiting_room()
    changed.left(A, now=NOW)
    changed.note(A, now=NOW + 1)
    changed.left(A, now=NOW + 2)
    assert changed.take(10, now=NOW + 1 + QUIET_S) == [A]
