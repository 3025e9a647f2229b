from collections.abc import Mapping

from controlplane.core.allocate import Refused, allocate
from controlplane.core.model import Decision, Location, ParticipantId, RttEstimate, RttSource
from controlplane.core.rtt import Estimates
from controlplane.core.sums import NOBODY, Sums, sum_up
from controlplane.core.telling import Subject, place_text, tell
from tests.core.build import NOW, join, node, one_node_each, region, rtts, seat, topology

CLOSE = topology("eu-frankfurt", "us-virginia", "ap-singapore")
WORLD = one_node_each(CLOSE)
NEAR_FRANKFURT = {"eu-frankfurt": 5.0, "us-virginia": 92.0, "ap-singapore": 165.0}


def decide(
    estimates: Estimates, others: Sums = NOBODY, residency: tuple[str, ...] = ()
) -> Decision | Refused:
    return allocate(join(residency=residency), others, WORLD, estimates, now=NOW)


def told(decision: Decision | Refused, others: Sums = NOBODY, who: str | None = "ana") -> list[str]:
    return list(tell(decision, Subject(ParticipantId(who) if who else None, others, CLOSE)))


def guessed(values: Mapping[str, float]) -> Estimates:
    found = {region(id_): RttEstimate(value, 45.0, RttSource.GEO) for id_, value in values.items()}
    return Estimates(found, Location(50.0, 8.5, 100.0), "geo")


def test_the_first_in_a_room_hears_where_why_how_sure_and_what_else() -> None:
    sentences = told(decide(rtts(NEAR_FRANKFURT)))
    assert sentences[0] == "ana sits on eu-frankfurt-1 in Frankfurt."
    assert "Frankfurt answers in 5 ms (probe)." in sentences
    assert "Its round trip there, 5 ms ± 1, is the client's own measurement." in sentences
    (runner_up,) = [one for one in sentences if one.startswith("The runner-up")]
    assert runner_up.startswith("The runner-up, Virginia, would have cost ")
    assert sentences[-1] == "Nobody else is in the room."
    assert 2 <= len(sentences) <= 7


def test_a_rival_is_named_once_and_so_are_the_others() -> None:
    others = sum_up(
        [
            seat("bob", node("eu-frankfurt-1", "eu-frankfurt")),
            seat("cem", node("us-virginia-1", "us-virginia")),
        ]
    )
    sentences = told(decide(rtts(NEAR_FRANKFURT), others), others)
    assert sum("Virginia" in one and "than" in one for one in sentences) == 1
    assert not any(one.startswith("The runner-up") for one in sentences)
    assert "eu-frankfurt-1 already carries the room." in sentences
    assert sentences[-1] == "Now with 2 others in the room: 1 in Frankfurt, 1 in Virginia."


def test_a_guess_is_called_one_and_says_from_where() -> None:
    sentences = told(decide(guessed(NEAR_FRANKFURT)), who=None)
    assert sentences[0] == "This client would go to eu-frankfurt-1 in Frankfurt."
    assert (
        "Its round trip there, 5 ms ± 45, is a guess from the place of the address"
        " (50.0° N, 8.5° E, give or take 100 km)." in sentences
    )


def test_measured_and_estimated_regions_are_counted() -> None:
    known = {**guessed(NEAR_FRANKFURT).rtts, **rtts({"eu-frankfurt": 5.0}).rtts}
    sentences = told(decide(Estimates(known)))
    assert any(one.endswith("1 region measured, 2 estimated.") for one in sentences)


def test_refusals_are_named() -> None:
    sentences = told(decide(rtts(NEAR_FRANKFURT), residency=("us",)))
    assert sentences[0] == "ana sits on us-virginia-1 in Virginia."
    assert any(
        one.startswith("Not possible: Frankfurt (residency: eu-frankfurt does not carry us); ")
        for one in sentences
    )


def test_nobody_can_take_the_participant() -> None:
    sentences = told(decide(rtts(NEAR_FRANKFURT), residency=("mars",)))
    assert sentences[0] == "Nobody can take ana now."
    assert (
        told(decide(rtts({}), residency=("mars",)), who=None)[0]
        == "Nobody can take this client now."
    )


def test_nothing_known_is_said_once() -> None:
    sentences = told(decide(Estimates({})))
    assert any(one.startswith("Nothing is known of this client's round trips") for one in sentences)
    assert not any(one.startswith("Its round trip") for one in sentences)


def test_places_are_written_with_their_directions() -> None:
    assert place_text(Location(-33.9, 151.2)) == "33.9° S, 151.2° E"
    assert place_text(Location(38.9, -77.4, 20.0)) == "38.9° N, 77.4° W, give or take 20 km"
    assert place_text(None) == "nowhere in particular"
