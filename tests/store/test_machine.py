"""Joins, leaves, moves and time in any order: epochs, idempotency, membership and events against a model."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from controlplane.core.model import Assignment, NodeId, ParticipantId, RoomId
from controlplane.store.base import Admitted, Conflict, Store
from tests.store.build import LEASE_S, NOW, proposal, take
from tests.store.conftest import OpenStore

T = TypeVar("T")
Key = tuple[RoomId, ParticipantId]

keys = st.tuples(st.sampled_from(["r1", "r2"]), st.sampled_from(["ana", "bob", "cem"]))
sessions = st.sampled_from(["s1", "s2"])
nodes = st.sampled_from(["n1", "n2", "n3"])


class StoreMachine(RuleBasedStateMachine):
    """A model of plain dictionaries beside the store."""

    open_store: OpenStore

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.now = NOW
        self.live: dict[Key, Assignment] = {}
        self.epochs: dict[Key, int] = {}
        self.expected: list[tuple[str, int]] = []
        """Type and epoch of every event that has to be there."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    @initialize()
    def start(self) -> None:
        self.store: Store = self.run(self.stack.enter_async_context(type(self).open_store()))

    @rule(who=keys, session=sessions, node=nodes)
    def join(self, who: tuple[str, str], session: str, node: str) -> None:
        wanted = proposal(who[1], room=who[0], session=session, node=node, now=self.now)
        self._admit(wanted, None, "participant.assigned")

    @rule(who=keys, session=sessions, node=nodes, off_by=st.sampled_from([0, 0, 0, -1, 1]))
    def replace_seen(self, who: tuple[str, str], session: str, node: str, off_by: int) -> None:
        key = (RoomId(who[0]), ParticipantId(who[1]))
        seen = self.live[key].epoch if key in self.live else self.epochs.get(key, 0)
        wanted = proposal(who[1], room=who[0], session=session, node=node, now=self.now)
        self._admit(wanted, seen + off_by, "participant.moved")

    def _admit(self, wanted: Assignment, replaces: int | None, event: str) -> None:
        key = (wanted.room, wanted.participant)
        before = self.live.get(key)
        outcome = self.run(self.store.admit(wanted, replaces=replaces, event=event, now=self.now))
        if before is not None and replaces is None and before.session == wanted.session:
            lease = max(before.expires_at, wanted.expires_at)
            self.live[key] = replace(before, expires_at=lease, rtts=wanted.rtts)
            assert outcome == Admitted(self.live[key], created=False)
        elif (before.epoch if before else None) == replaces:
            assert isinstance(outcome, Admitted)
            assert outcome.created
            assert outcome.assignment.epoch > self.epochs.get(key, 0)
            assert outcome.assignment == replace(wanted, epoch=outcome.assignment.epoch)
            self.live[key] = outcome.assignment
            self.epochs[key] = outcome.assignment.epoch
            self.expected.append((event, outcome.assignment.epoch))
        else:
            assert outcome == Conflict(before)

    @rule(who=keys, off_by=st.sampled_from([None, 0, 1]))
    def leave(self, who: tuple[str, str], off_by: int | None) -> None:
        key = (RoomId(who[0]), ParticipantId(who[1]))
        before = self.live.get(key)
        epoch = None if off_by is None else (before.epoch if before else 0) + off_by
        ended = self.run(self.store.end(*key, epoch=epoch, reason="left", now=self.now))
        if before is None or epoch not in (None, before.epoch):
            assert ended is None
        else:
            assert ended == before
            del self.live[key]
            self.expected.append(("participant.ended", before.epoch))

    @rule(who=keys, node=nodes, age=st.sampled_from([0, 1]))
    def report(self, who: tuple[str, str], node: str, age: int) -> None:
        key = (RoomId(who[0]), ParticipantId(who[1]))
        current = self.live.get(key)
        if current is None:
            return
        noted = replace(current, epoch=current.epoch - age, live=True, expires_at=self.now + 30)
        self.run(self.store.note_sessions(NodeId(node), {key: noted}, now=self.now))
        if age == 0 and node == current.node:
            self.live[key] = noted

    @rule(seconds=st.sampled_from([1.0, LEASE_S]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        rooms = self.run(self.store.rooms(after=None, limit=10))
        found = {(room.id, who): one for room in rooms for who, one in room.assignments.items()}
        assert found == self.live
        on_nodes = [
            one
            for node in ("n1", "n2", "n3")
            for one in self.run(self.store.assignments_on(NodeId(node)))
        ]
        assert len(on_nodes) == len(found), "nobody is on two nodes"
        over = self.run(self.store.expired(now=self.now, limit=10))
        assert {(one.room, one.participant) for one in over} == {
            key for key, one in self.live.items() if one.expires_at <= self.now
        }
        for key, epoch in self.epochs.items():
            assert self.run(self.store.last_epoch(*key)) == epoch

    @invariant()
    def every_change_has_its_event_in_order(self) -> None:
        if not hasattr(self, "store"):
            return
        events = self.run(take(self.store.events(after=""), len(self.expected)))
        assert [(one.type, one.data["epoch"]) for one in events] == self.expected


@pytest.mark.parametrize("opener", ["memory"], indirect=True)
def test_any_sequence_keeps_the_guarantees(opener: OpenStore) -> None:
    machine = type("Machine", (StoreMachine,), {"open_store": staticmethod(opener)})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )
