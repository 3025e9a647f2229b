"""Two replicas over one Redis, in any order of what may happen: the invariants of assignments, against a model.

I1  No two assignments of a participant have one epoch; once the replicas have talked, they agree on the highest.
I3  A join that is repeated, at either replica, gives the same answer while its lease lives.
I4  Epochs grow: across leaving, cut off replicas, a Redis that lost everything, clocks that differ by 5 s.
    And nobody who was told that they left, or that they are in, is forgotten.

Time is the machine's own: what the scripts call now is moved along with the clocks of the replicas.
"""

import asyncio
import itertools
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from controlplane.adapters.clock import SystemClock
from controlplane.core.model import Assignment, ParticipantId, RoomId
from controlplane.store.base import Admitted, Conflict
from controlplane.store.redis.connect import connector_of
from controlplane.store.redis.scripts import Scripts
from controlplane.store.redis.store import RedisStore
from controlplane.store.redis.target import parse_target
from controlplane.store.view import Key
from tests.store.build import LEASE_S, proposal
from tests.store.machines import (
    SHIFT,
    Wire,
    come_to_rest,
    edited,
    run_machine,
    shift,
    shifted_scripts,
)
from tests.store.servers import RedisServer

T = TypeVar("T")

COMPARISON = (
    "if parse(found).epoch ~= replaces then return {'', found, whole(left), whole(now)} end"
)
"""The comparison in admit.lua: without it, replicas check what they see and then set."""

people = st.tuples(st.sampled_from(["r1", "r2"]), st.sampled_from(["ana", "bob"]))
sessions = st.sampled_from(["s1", "s2"])
nodes = st.sampled_from(["n1", "n2", "n3"])
replicas = st.sampled_from([0, 1])

_names = itertools.count()


class One:
    """One replica."""

    def __init__(self, machine: "ReplicasMachine", skew_s: float) -> None:
        self.skew_s = skew_s
        self.machine = machine
        self.known: dict[Key, int] = {}
        """The highest epoch of each that this replica has seen."""
        self.stack = AsyncExitStack()

    def now(self) -> float:
        return SystemClock().now() + self.machine.shift_s + self.skew_s

    async def open(self) -> None:
        self.wire = Wire(connector_of(parse_target(self.machine.server.url)))
        opened = RedisStore.opened(
            self.wire, replica=f"m{next(_names)}", now=self.now, scripts=self.machine.scripts
        )
        self.store = await self.stack.enter_async_context(opened)

    async def reopen(self) -> None:
        await self.stack.aclose()
        await self.open()


class ReplicasMachine(RuleBasedStateMachine):
    """Two replicas and what they said."""

    server: RedisServer
    scripts: Scripts
    broken: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.shift_s = 0.0
        self.settled = True
        self.granted: dict[Key, dict[int, tuple[str, str]]] = {}
        """Epoch → session and node, of everything that was answered."""
        self.ended: dict[Key, int] = {}
        self.repeatable: dict[Key, tuple[int, str, float]] = {}
        """Epoch, session and end of the lease of who gets the same answer again."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(skews=st.tuples(*[st.sampled_from([-5.0, 0.0, 5.0])] * 2))
    def start(self, skews: tuple[float, float]) -> None:
        self.server.command("FLUSHALL")
        self.both = [One(self, skew) for skew in skews]
        for one in self.both:
            self.run(one.open())

    def teardown(self) -> None:
        for one in getattr(self, "both", ()):
            self.run(one.stack.aclose())
        self.runner.close()

    # --- what callers do ----------------------------------------------------------------------------

    @rule(at=replicas, who=people, session=sessions, node=nodes)
    def join(self, at: int, who: tuple[str, str], session: str, node: str) -> None:
        self.run(self._join(self.both[at], who, session, node))

    @rule(who=people, session=sessions, others=sessions, node=nodes, other=nodes)
    def join_at_both(
        self, who: tuple[str, str], session: str, others: str, node: str, other: str
    ) -> None:
        if session != others:
            self.repeatable.pop(key_of(who), None)  # one of them replaces the other

        async def race() -> None:
            await asyncio.gather(
                self._join(self.both[0], who, session, node),
                self._join(self.both[1], who, others, other),
            )

        self.run(race())

    @rule(at=replicas, who=people)
    def leave(self, at: int, who: tuple[str, str]) -> None:
        one, key = self.both[at], key_of(who)
        ended = self.run(one.store.end(*key, epoch=None, reason="left", now=one.now()))
        self._note_end(one, key, ended)

    @rule(at=replicas, who=people, live=st.booleans())
    def report(self, at: int, who: tuple[str, str], live: bool) -> None:
        one, key = self.both[at], key_of(who)
        seat = self.run(one.store.assignment(*key))
        if seat is not None:
            noted = replace(seat, live=live, expires_at=max(seat.expires_at, one.now() + 30))
            self.run(one.store.note_sessions(seat.node, {key: noted}, now=one.now()))
            self.repeatable.pop(key, None)

    @rule(at=replicas)
    def sweep(self, at: int) -> None:
        one = self.both[at]
        for seat in self.run(one.store.expired(now=one.now(), limit=10)):
            key = (seat.room, seat.participant)
            ended = self.run(
                one.store.end(*key, epoch=seat.epoch, reason="", now=one.now(), if_expired=True)
            )
            self._note_end(one, key, ended)

    # --- what befalls them --------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, LEASE_S / 2, 2 * LEASE_S]))
    def wait(self, seconds: float) -> None:
        self.shift_s += seconds
        shift(self.server, self.shift_s)

    @rule(at=replicas)
    def cut(self, at: int) -> None:
        self.both[at].wire.is_cut = True
        self.both[at].store._shards[0].committer.lose("cut")
        self._unsettle()

    @precondition(lambda self: any(one.wire.is_cut for one in self.both))
    @rule()
    def heal(self) -> None:
        self._settle()

    @rule()
    def lose_everything(self) -> None:
        """Redis begins anew; a moment passes, as it does when a server starts."""
        self.shift_s += 0.01
        self.server.command("EVAL", FORGET, "0", SHIFT, str(round(self.shift_s * 1000)))
        self._unsettle()

    @rule(at=replicas)
    def restart(self, at: int) -> None:
        self._settle()
        self.run(self.both[at].reopen())

    @rule()
    def talk(self) -> None:
        self._settle()

    # --- what has to hold ---------------------------------------------------------------------------

    @invariant()
    def nobody_sits_on_an_epoch_that_was_not_granted(self) -> None:
        for one in getattr(self, "both", ()):
            for seat in one.store._view:
                key = (seat.room, seat.participant)
                assert self.granted[key].get(seat.epoch) == (seat.session, seat.node)

    def _broke(self, what: str) -> None:
        self.broken.append(what)
        raise AssertionError(what)

    def _unsettle(self) -> None:
        """What one replica was told may be unknown to the other, until they have talked."""
        self.settled = False
        self.repeatable.clear()

    def _settle(self) -> None:
        """Let the replicas talk; then they agree with each other, with Redis, and with what was said."""
        for one in self.both:
            one.wire.is_cut = False
        self.run(come_to_rest([one.store for one in self.both]))
        expected = {
            key: top
            for key, grants in self.granted.items()
            if (top := max(grants)) > self.ended.get(key, 0)
        }
        for one in self.both:
            found = {(seat.room, seat.participant): seat.epoch for seat in one.store._view}
            if found != expected:
                self._broke(f"a replica has {found}, what was answered is {expected}")
            one.known = {key: max(grants) for key, grants in self.granted.items()}
        if (found := self.run(self._in_redis())) != expected:
            self._broke(f"Redis has {found}, what was answered is {expected}")
        self.settled = True

    async def _in_redis(self) -> dict[Key, int]:
        client = self.both[0].store._shards[0].client
        found: dict[Key, int] = {}
        for room in ("r1", "r2"):
            for who, record in (await client.hgetall(f"{{tw:0}}:room:{room}")).items():
                found[RoomId(room), ParticipantId(who.decode())] = int(record.split(b" ")[0])
        return found

    async def _join(self, one: One, who: tuple[str, str], session: str, node: str) -> None:
        """Join as the use case does: look, decide, admit; once more when somebody else was faster."""
        key = key_of(who)
        for _ in range(2):
            live = await one.store.assignment(*key)
            same = live is not None and live.session == session
            wanted = proposal(who[1], room=who[0], session=session, node=node, now=one.now())
            replaces = None if live is None or same else live.epoch
            had = self.repeatable.get(key)
            outcome = await one.store.admit(
                wanted, replaces=replaces, event="participant.assigned", now=one.now()
            )
            if isinstance(outcome, Conflict):
                continue
            self._note_grant(one, key, outcome, had)
            return

    def _note_grant(
        self, one: One, key: Key, outcome: Admitted, had: tuple[int, str, float] | None
    ) -> None:
        seat = outcome.assignment
        mine = (seat.session, seat.node)
        grants = self.granted.setdefault(key, {})
        if grants.setdefault(seat.epoch, mine) != mine:
            self._broke(f"I1: two assignments at one epoch: {grants}")
        if outcome.created:
            if seat.epoch <= one.known.get(key, 0):
                self._broke(f"I4: an epoch went back: {grants}")
            known = had is not None and had == self.repeatable.get(key)
            still = had is not None and had[1] == seat.session and had[2] > self.shift_s
            if known and still and not outcome.degraded:
                self._broke(f"I3: a repeated join got another answer: {grants}")
        one.known[key] = max(seat.epoch, one.known.get(key, 0))
        if seat.epoch < max(grants) or seat.epoch <= self.ended.get(key, 0):
            return  # the other replica knew better, a moment before this one
        self.repeatable.pop(key, None)
        if not outcome.degraded and self.settled:
            self.repeatable[key] = (seat.epoch, seat.session, self.shift_s + LEASE_S / 2)

    def _note_end(self, one: One, key: Key, ended: Assignment | None) -> None:
        if ended is not None:
            self.ended[key] = max(ended.epoch, self.ended.get(key, 0))
            one.known[key] = max(ended.epoch, one.known.get(key, 0))
            self.repeatable.pop(key, None)


FORGET = """
redis.call('FLUSHALL')
redis.call('SET', ARGV[1], ARGV[2])
"""


def key_of(who: tuple[str, str]) -> Key:
    return RoomId(who[0]), ParticipantId(who[1])


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("quick")
def test_two_replicas_keep_the_invariants(redis_server: RedisServer) -> None:
    assert run_machine(ReplicasMachine, server=redis_server, scripts=shifted_scripts()) == []


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("quick")
def test_a_check_before_setting_is_found(redis_server: RedisServer) -> None:
    """Without the comparison in the script, the machine has to notice."""
    planted = edited(shifted_scripts(), COMPARISON, "")
    assert run_machine(ReplicasMachine, server=redis_server, scripts=planted)
