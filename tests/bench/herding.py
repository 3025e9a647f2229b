"""How evenly bursts fill equal nodes while reports of their load are late.

The first burst is one that a Jitsi deployment saw: 92 people in 31 s, of whom 58 went to one bridge of a dozen. The
second is 200 rooms that begin within a second. Nodes report every ten seconds, all at once.
"""

from collections.abc import Iterator

from controlplane.core.model import Location, ParticipantId, Region, RegionId, RoomId, Topology
from controlplane.simulation.inputs import Op, TraceEvent
from controlplane.simulation.replay import Replay, Settings

NODES = 12
REPORT_S = 10.0
GOAL = 1.3
"""The fullest node over the fair share."""

HOME = RegionId("home")
PLACE = Location(50.11, 8.68)


def burst(people: int, seconds: float, room_size: int) -> Iterator[TraceEvent]:
    """Yield joins at equal distances, one room filled after the other."""
    for number in range(people):
        yield TraceEvent(
            t=1000.0 + seconds * number / people,
            op=Op.JOIN,
            room=RoomId(f"room-{number // room_size}"),
            participant=ParticipantId(f"p{number}"),
            client="office",
            location=PLACE,
        )


def fullest_over_fair(people: int, seconds: float, room_size: int, *, capacity: int = 400) -> float:
    """Return the people on the fullest node over the mean of all nodes."""
    region = Region(HOME, "Home", PLACE, desired_nodes=NODES, node_capacity=capacity)
    replay = Replay(
        Topology({HOME: region}), {}, {"office": {HOME: 10.0}}, Settings(report_interval_s=REPORT_S)
    )
    for event in burst(people, seconds, room_size):
        assert replay.step(event).node is not None
    return replay.fleet.spreads()[HOME].ratio


def report() -> str:
    """Return the figures."""
    lines = [
        f"herding, {NODES} equal nodes that report every {REPORT_S:.0f} s: "
        f"people on the fullest node over the fair share (goal {GOAL})"
    ]
    for people, seconds, size, title in (
        (92, 31.0, 1, "92 joins in 31 s, each a room of its own"),
        (92, 31.0, 4, "92 joins in 31 s, rooms of 4"),
        (200, 1.0, 1, "200 rooms in one second"),
        (800, 1.0, 4, "200 rooms of 4 in one second"),
    ):
        ratio = fullest_over_fair(people, seconds, size)
        lines.append(f"  {title:<42}{ratio:5.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())  # noqa: T201
