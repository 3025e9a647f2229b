"""A join from its request to its answer, through the services and the store in memory: decided, admitted, linked."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from controlplane.core.model import Assignment, Join, Location, ParticipantId
from controlplane.core.world import World
from controlplane.services.joins import Joins
from tests.services.system import System

ADDRESS = "203.0.113.9"


@dataclass(frozen=True)
class Turn:
    """How a round of joins is made."""

    joins: Joins
    requests: tuple[Join, ...]

    async def run(self) -> None:
        """Join and leave, one after the other."""
        for request in self.requests:
            assert (await self.joins.join(request)).created
            await self.joins.leave(request.room, request.participant)


def whole_joins(
    runner: asyncio.Runner, world: World, people: Iterable[Assignment], requests: Iterable[Join]
) -> Callable[[], None]:
    """Return what makes these requests, and undoes them, in a room where these people are."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    turn = runner.run(_prepared(world, tuple(people), tuple(requests)))
    return lambda: runner.run(turn.run())


async def _prepared(
    world: World, people: tuple[Assignment, ...], requests: tuple[Join, ...]
) -> Turn:
    system = System(parser=lambda _text: world.topology)
    await system.topologies.load("the world")
    system.geo.places[ADDRESS] = Location(50.1, 8.7, 50.0)
    now = system.clock.now()
    for node in world.nodes.values():
        await system.store.put_node(replace(node, heard_at=now))
    for one in people:
        await system.store.admit(one, replaces=None, event="participant.assigned", now=now)
    newcomers = [
        replace(request, participant=ParticipantId(f"newcomer-{index}"), client_ip=ADDRESS)
        for index, request in enumerate(requests)
    ]
    return Turn(system.joins, tuple(newcomers))
