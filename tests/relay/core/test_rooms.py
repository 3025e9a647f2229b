"""The tracks of each room, and who is told when they change."""

from relay.core.rooms import Rooms
from tests.relay.packets import make_track


def test_tracks_are_listed_in_the_order_of_arrival() -> None:
    rooms = Rooms()
    one, two = make_track("1"), make_track("2")
    rooms.add([one])
    rooms.add([two])
    assert rooms.tracks("r") == (one, two)
    assert list(rooms.all()) == [one, two]
    assert rooms.track("r", "2") is two
    assert rooms.tracks("another") == ()
    assert rooms.track("another", "2") is None


def test_a_track_with_a_known_id_takes_the_place_and_the_old_one_cannot_remove_it() -> None:
    rooms = Rooms()
    before, after = make_track("1"), make_track("1")
    rooms.add([before])
    rooms.add([after])
    rooms.remove([before])
    assert rooms.tracks("r") == (after,)


def test_packets_that_never_came_are_counted_beyond_the_tracks() -> None:
    rooms = Rooms()
    ended, replaced, present = make_track("1"), make_track("2"), make_track("2")
    rooms.add([ended, replaced])
    for track, given_up in ((ended, 1), (replaced, 10), (present, 100)):
        track.gaps.given_up = given_up
    rooms.remove([ended])
    rooms.remove([ended])
    rooms.add([present])
    rooms.add([present])
    rooms.remove([replaced])
    assert rooms.given_up(from_trunks=False) == 111
    assert rooms.given_up(from_trunks=True) == 0


def test_watchers_are_told_once_for_each_change_and_see_it() -> None:
    rooms, seen = Rooms(), []
    rooms.watch(lambda room: seen.append((room, len(rooms.tracks(room)))))
    tracks = [make_track("1"), make_track("2")]
    rooms.add(tracks)
    rooms.remove(tracks)
    assert seen == [("r", 2), ("r", 0)]


def test_an_empty_room_is_forgotten() -> None:
    rooms, track = Rooms(), make_track()
    rooms.remove([track])
    rooms.add([track])
    rooms.remove([track])
    assert rooms._tracks == {}
