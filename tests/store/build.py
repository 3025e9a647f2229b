"""Assignments and races for tests of stores."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from controlplane.core.model import (
    Assignment,
    Candidate,
    Decision,
    Event,
    NodeId,
    ParticipantId,
    RegionId,
    Role,
    RoomId,
    RttEstimate,
    RttSource,
)
from controlplane.store.base import Admitted, Conflict, Store

NOW = 1_790_000_000.0
LEASE_S = 60.0


def proposal(
    who: str = "ana",
    *,
    room: str = "standup",
    session: str = "s1",
    node: str = "fra-1",
    now: float = NOW,
    because: tuple[str, ...] = ("it is the nearest",),
) -> Assignment:
    region = RegionId("eu-frankfurt")
    rtt = RttEstimate(5.0, 1.0, RttSource.PROBE)
    return Assignment(
        room=RoomId(room),
        participant=ParticipantId(who),
        session=session,
        role=Role.PUBLISHER,
        node=NodeId(node),
        region=region,
        epoch=0,
        assigned_at=now,
        expires_at=now + LEASE_S,
        decision=Decision(
            NodeId(node),
            region,
            because,
            (Candidate(region, NodeId(node), rtt, 1.0, {"delay": 1.0}),),
            (),
            now,
        ),
        rtts={region: rtt},
    )


async def admit(
    store: Store,
    wanted: Assignment,
    *,
    replaces: int | None = None,
    event: str = "participant.assigned",
    now: float = NOW,
) -> Admitted | Conflict:
    return await store.admit(wanted, replaces=replaces, event=event, now=now)


async def admitted(
    store: Store, wanted: Assignment, *, replaces: int | None = None, now: float = NOW
) -> Assignment:
    outcome = await admit(store, wanted, replaces=replaces, now=now)
    assert isinstance(outcome, Admitted), outcome
    return outcome.assignment


async def end(
    store: Store, who: str = "ana", *, room: str = "standup", epoch: int | None = None
) -> Assignment | None:
    return await store.end(RoomId(room), ParticipantId(who), epoch=epoch, reason="left", now=NOW)


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    """Return the next events; fails when they do not come."""
    taken: list[Event] = []
    async with asyncio.timeout(2):
        while len(taken) < count:
            taken.append(await anext(events))
    return taken


def moved_to(one: Assignment, node: str) -> Assignment:
    return replace(one, node=NodeId(node), decision=replace(one.decision, node=NodeId(node)))


async def admitted_again(store: Store, *, now: float) -> Assignment:
    """The same session of the same participant joins again."""
    return await admitted(store, proposal(now=now), now=now)


async def amounts(store: Store) -> tuple[int, int, int]:
    """Return how many rooms, assignments and networks there are."""
    totals = await store.totals()
    return totals.rooms, totals.assignments, totals.networks


async def ended_log(store: Store) -> list[Event]:
    """Return all events of the room up to one that is appended now."""
    await store.append_event("test.end", {"room": "standup"}, now=NOW)
    found: list[Event] = []
    async with asyncio.timeout(2):
        async for event in store.events(after=""):
            if event.type == "test.end":
                break
            found.append(event)
    return found
