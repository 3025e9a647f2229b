from controlplane.cli.demo_tally import Tally


def test_what_is_missing_is_named_by_kind_and_sender() -> None:
    tally = Tally()
    assert tally.missing(["ben", "chi"]) == "video and audio of ben, video and audio of chi"
    tally.count("video", "ben", 1)
    assert tally.missing(["ben", "chi"]) == "audio of ben, video and audio of chi"
    tally.count("audio", "ben", 1)
    tally.count("audio", "chi", 1)
    assert tally.missing(["ben", "chi"]) == "video of chi"
    tally.count("video", "chi", 1)
    assert tally.missing(["ben", "chi"]) == ""


def test_a_frame_that_came_over_no_trunk_or_over_two_is_a_detour() -> None:
    tally = Tally()
    tally.count("video", "ben", 1)
    tally.count("video", "chi", 1)
    assert tally.detours(["ben", "chi"]) == ""
    tally.count("audio", "ben", 0)
    tally.count("video", "chi", 2)
    assert tally.detours(["ben", "chi"]) == "ben came over 0 trunk hops, chi came over 2 trunk hops"
    assert tally.by_peer["ben"].trunk_hops == 0
    assert tally.by_peer["chi"].trunk_hops == 2


def test_forgetting_begins_anew() -> None:
    tally = Tally()
    for peer in ("ben", "chi"):
        tally.count("video", peer, 1)
    tally.forget("ben")
    assert set(tally.by_peer) == {"chi"}
    tally.forget()
    assert not tally.by_peer
