"""Joins that lose: the store's answer counts, not what was read before."""

from dataclasses import replace

import pytest

from controlplane.core.model import Assignment, NodeId
from controlplane.errors import UnavailableError
from controlplane.services.joins import ADMIT_ATTEMPTS
from controlplane.store.base import Admitted, Conflict
from controlplane.store.memory import MemoryStore
from tests.services.system import System


class ContendedStore(MemoryStore):
    """Somebody else joins the same participant just before each of the first admissions."""

    def __init__(self, rivals: int) -> None:
        super().__init__()
        self.rivals = rivals
        self.asked = 0

    async def admit(
        self, proposal: Assignment, *, replaces: int | None, event: str, now: float
    ) -> Admitted | Conflict:
        self.asked += 1
        if self.rivals:
            self.rivals -= 1
            rival = replace(proposal, session=f"rival-{self.asked}")
            await super().admit(rival, replaces=replaces, event=event, now=now)
        return await super().admit(proposal, replaces=replaces, event=event, now=now)


async def contended(rivals: int) -> tuple[System, ContendedStore]:
    store = ContendedStore(rivals)
    system = System(store=store)
    await system.topologies.load("eu-frankfurt")
    await system.serving("fra-1", "eu-frankfurt")
    return system, store


async def test_who_loses_decides_anew() -> None:
    system, store = await contended(ADMIT_ATTEMPTS - 1)
    joined = await system.join("ana", "frankfurt")
    assert joined.created
    assert joined.assignment.epoch == ADMIT_ATTEMPTS
    assert joined.assignment.session == "s1"
    assert store.asked == ADMIT_ATTEMPTS
    assert (await system.fleet.node(NodeId("fra-1"))).placed == 1


async def test_who_loses_every_time_is_told_to_come_again() -> None:
    system, store = await contended(100)
    with pytest.raises(UnavailableError) as caught:
        await system.join("ana", "frankfurt")
    assert caught.value.code == "join-contended"
    assert store.asked == ADMIT_ATTEMPTS


async def test_who_loses_counts_who_won() -> None:
    system, store = await contended(100)
    with pytest.raises(UnavailableError):
        await system.join("ana", "frankfurt")
    assert (await store.assignments_on(NodeId("fra-1")))[0].session == f"rival-{ADMIT_ATTEMPTS}"
    assert (await system.fleet.node(NodeId("fra-1"))).placed == 1
