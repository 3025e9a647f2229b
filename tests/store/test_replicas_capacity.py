"""Two replicas over one Redis place people on the same few small nodes: how many each node is promised.

I2  A node never has more people than it takes: its own door sees to that, and it is the door of a real node here. And
    as long as the replicas reach Redis, no node is promised to more than it takes: whoever comes while the lease lasts
    finds a place. Without Redis at most a tenth too many are sent to a node, or one. While one replica reaches it and
    the other does not, neither knows what the other does: each keeps within what a node takes.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from controlplane.adapters.clock import SystemClock
from controlplane.core.model import ParticipantId, RoomId
from controlplane.errors import NotFoundError, UnavailableError
from controlplane.services import reports
from controlplane.services.proposals import LEASE_TO_FIRST_USE_S
from controlplane.store.redis.connect import connector_of
from controlplane.store.redis.places import OTHERS_SHARE, Places
from controlplane.store.redis.scripts import Scripts
from controlplane.store.redis.store import RedisStore
from controlplane.store.redis.target import parse_target
from controlplane.store.view import Key
from relay.core.admission import Admission
from tests.fakes.clock import FakeClock
from tests.services.system import FakeNode, System, a_join
from tests.store.machines import Wire, come_to_rest, edited, run_machine, shift, shifted_scripts
from tests.store.servers import RedisServer

T = TypeVar("T")

RAMP_UP_S = 20.0
"""By then replicas do not expect people any more; their places are kept all the same."""

REGIONS = "eu-frankfurt us-virginia"
NODES = {"fra-1": ("eu-frankfurt", 3), "fra-2": ("eu-frankfurt", 6), "vir-1": ("us-virginia", 20)}

replicas = st.sampled_from([0, 1])
counts = st.sampled_from([1, 1, 2, 5, 12])
places = st.sampled_from([None, "frankfurt", "virginia"])
rooms = st.sampled_from([RoomId("r1"), RoomId("r2"), RoomId("r3")])
picks = st.integers(min_value=0, max_value=1000)

_names = itertools.count()


class MovedClock(FakeClock):
    """The real time, and as much more as the machine wants."""

    def now(self) -> float:
        return SystemClock().now() + super().now()


@dataclass(frozen=True)
class Promise:
    """An answer with which somebody may come."""

    node: str
    epoch: int
    until: float
    """So long its place has to be kept."""


@dataclass
class Edge:
    """A node with the door of a real one."""

    spoken: FakeNode
    """What it reports."""
    at: int
    """The replica that hears it."""
    capacity: int
    door: Admission = field(default_factory=Admission)

    @property
    def here(self) -> dict[Key, int]:
        return self.spoken.here

    def let_in(self, key: Key, epoch: int) -> str:
        """Let somebody in, or return the code of the refusal."""
        why = self.door.refusal(
            key, epoch, present=frozenset(self.here), capacity=self.capacity, draining=False
        )
        if why is None:
            self.door.admitted(key, epoch)
            self.here[key] = epoch
        return why.code if why else ""


class CapacityMachine(RuleBasedStateMachine):
    """Two replicas, their nodes and what people were answered."""

    server: RedisServer
    scripts: Scripts
    broken: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = MovedClock(0.0)
        self.stack = AsyncExitStack()
        self.people: dict[Key, tuple[str, int]] = {}
        """Session and highest epoch of everybody who was answered and did not leave."""
        self.promised: dict[Key, Promise] = {}
        self.edges: dict[str, Edge] = {}
        self.allowed = dict.fromkeys(NODES, 0)
        """How many too many a node may be promised to: those of a time without Redis, until they are gone."""
        self.apart = 0
        """How many replicas were cut off; until they are heard again not all that was promised is known to both."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(heard_by=st.tuples(replicas, replicas, replicas))
    def start(self, heard_by: tuple[int, int, int]) -> None:
        self.server.command("FLUSHALL")
        self.run(self._start(heard_by))

    async def _start(self, heard_by: Iterable[int]) -> None:
        self.wires = [Wire(connector_of(parse_target(self.server.url))) for _ in range(2)]
        self.stores = [await self._opened(wire) for wire in self.wires]
        self.systems = [System(store=one, clock=self.clock) for one in self.stores]
        await self.systems[0].topologies.load(REGIONS)
        await come_to_rest(self.stores)
        for (name, (region, capacity)), at in zip(NODES.items(), heard_by, strict=True):
            spoken = await self.systems[at].serving(name, region, capacity=capacity)
            self.edges[name] = Edge(spoken, at, capacity)
        await come_to_rest(self.stores)

    async def _opened(self, wire: Wire) -> RedisStore:
        opened = RedisStore.opened(
            wire, replica=f"c{next(_names)}", now=self.clock.now, scripts=self.scripts
        )
        return await self.stack.enter_async_context(opened)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    # --- what people do -----------------------------------------------------------------------------

    @rule(at=replicas, room=rooms, place=places, count=counts)
    def join(self, at: int, room: RoomId, place: str | None, count: int) -> None:
        self.run(self._join_all([at] * count, room, place))

    @rule(room=rooms, place=places, count=counts)
    def join_at_both(self, room: RoomId, place: str | None, count: int) -> None:
        self.run(self._join_all([0, 1] * count, room, place))

    @rule(at=st.sampled_from([(0,), (1,), (0, 1)]), pick=picks, again=st.booleans(), place=places)
    def join_again(self, at: tuple[int, ...], pick: int, again: bool, place: str | None) -> None:
        """Somebody who was answered joins once more, with the same session or another one."""
        if not self.people:
            return
        key = self._one_of(self.people, pick)
        session = self.people[key][0] if again else f"s{next(_names)}"

        async def race() -> None:
            await asyncio.gather(*(self._join(one, key, session, place) for one in at))

        self.run(race())
        self._check()

    @rule(room=rooms, place=places, session=st.sampled_from([("s", "s"), ("s", "t")]))
    def join_twice(self, room: RoomId, place: str | None, session: tuple[str, str]) -> None:
        """Somebody new joins at both replicas at once."""
        key = room, ParticipantId(f"p{next(_names)}")

        async def race() -> None:
            await asyncio.gather(*(self._join(at, key, session[at], place) for at in (0, 1)))

        self.run(race())
        self._check()

    @rule(at=replicas, pick=picks, count=counts)
    def leave(self, at: int, pick: int, count: int) -> None:
        for _ in range(min(count, len(self.people))):
            key = self._one_of(self.people, pick)
            try:
                self.run(self.systems[at].joins.leave(*key))
            except NotFoundError:
                continue  # this replica has yet to hear of them
            del self.people[key]
            self.promised.pop(key, None)
            self._gone(key)
        self._check()

    @rule(pick=picks, count=counts, reported=st.booleans())
    def arrive(self, pick: int, count: int, reported: bool) -> None:
        for _ in range(min(count, len(self.promised))):
            key = self._one_of(self.promised, pick)
            promise = self.promised.pop(key)
            if self.clock.now() >= promise.until:
                continue  # the lease is over
            edge = self.edges[promise.node]
            before = key in edge.here
            self._gone(key, but=promise.node)
            why = edge.let_in(key, promise.epoch)
            if why and not (before or self.apart or self.allowed[promise.node]):
                self._broke(f"I2: {key} was sent to {promise.node}, which says {why}")
        for node in NODES if reported else ():
            self.run(self._report(node))
        self._check()

    @rule(pick=picks, count=counts)
    def vanish(self, pick: int, count: int) -> None:
        """People lose their connection to the node; nobody says that they left."""
        for _ in range(count):
            if here := {key: None for edge in self.edges.values() for key in edge.here}:
                self._gone(self._one_of(here, pick))

    @rule(node=st.sampled_from(sorted(NODES)))
    def report(self, node: str) -> None:
        self.run(self._report(node))
        self._check()

    # --- what befalls them --------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([RAMP_UP_S, LEASE_TO_FIRST_USE_S + 1.0]))
    def wait(self, seconds: float) -> None:
        """Who has not come by then loses the place, sooner or later; nodes go on reporting."""
        shift(self.server, self.clock.advance(seconds))
        for node in NODES:
            self.run(self._report(node))
        for one in self.stores:
            self.run(self._sweep(one))
        self._check()

    @precondition(lambda self: not self.apart)
    @rule(at=st.sampled_from([(0,), (1,), (0, 1)]))
    def cut(self, at: tuple[int, ...]) -> None:
        self.run(self._hear_of_each_other())
        for one in at:
            self.wires[one].is_cut = True
            self.stores[one]._shards[0].committer.lose("cut")
        self.apart = len(at)

    @precondition(lambda self: self.apart)
    @rule()
    def heal(self) -> None:
        for wire in self.wires:
            wire.is_cut = False
        self.run(come_to_rest(self.stores))
        for node in NODES:
            self.run(self._report(node))
        self.run(come_to_rest(self.stores))
        self._forget_what_did_not_stand()
        self.apart = 0
        self.allowed = {node: max(0, self._over(node)) for node in NODES}

    @precondition(lambda self: not self.apart)
    @rule()
    def talk(self) -> None:
        self.run(come_to_rest(self.stores))

    # --- what has to hold ---------------------------------------------------------------------------

    def _over(self, node: str) -> int:
        now, edge = self.clock.now(), self.edges[node]
        due = {key for key, one in self.promised.items() if one.node == node and now < one.until}
        return len(due | edge.here.keys()) - edge.capacity

    def _check(self) -> None:
        for node, edge in self.edges.items():
            if len(edge.here) > edge.capacity:
                self._broke(f"I2: {len(edge.here)} people are on {node}")
            over = self._over(node)
            more = (0, edge.capacity, max(1, OTHERS_SHARE * edge.capacity))[self.apart]
            if over > self.allowed[node] + more:
                self._broke(f"I2: with {self.apart} cut off, {node} is promised to {over} too many")
            if self.apart:
                continue
            self.allowed[node] = max(0, min(over, self.allowed[node]))

    def _broke(self, what: str) -> None:
        self.broken.append(what)
        raise AssertionError(what)

    # --- inside -------------------------------------------------------------------------------------

    async def _join_all(self, at: list[int], room: RoomId, place: str | None) -> None:
        people = [(room, ParticipantId(f"p{next(_names)}")) for _ in at]
        await asyncio.gather(
            *(self._join(one, key, "s", place) for one, key in zip(at, people, strict=True))
        )
        self._check()

    async def _join(self, at: int, key: Key, session: str, place: str | None) -> None:
        wanted = a_join(key[1], place, room=key[0], session=session)
        try:
            one = (await self.systems[at].joins.join(wanted)).assignment
        except UnavailableError:
            return  # there is no place, as far as this replica knows
        before = self.people.get(key, ("", 0))
        if one.epoch > before[1]:
            if session != before[0]:
                self._gone(key)  # the page was loaded again
            self.people[key] = session, one.epoch
            self.promised[key] = Promise(one.node, one.epoch, one.expires_at)

    def _forget_what_did_not_stand(self) -> None:
        """Of two decisions that were made apart one stands; who has the other one is sent away, or has to ask again."""
        view = self.stores[0]._view
        for key, promise in list(self.promised.items()):
            live = view.live(key)
            if live is None or live.epoch != promise.epoch:
                del self.promised[key]
        for name, edge in self.edges.items():
            for key in list(edge.here):
                live = view.live(key)
                if live is None or live.node != name:
                    del edge.here[key]

    def _gone(self, key: Key, *, but: str = "") -> None:
        for name, edge in self.edges.items():
            if name != but:
                edge.here.pop(key, None)

    async def _report(self, node: str) -> None:
        edge = self.edges[node]
        await self.systems[edge.at].report(edge.spoken)

    async def _hear_of_each_other(self) -> None:
        """Time was moved, and with it what was said last: say it anew."""
        await come_to_rest(self.stores)
        for one in (*self.stores, self.stores[0]):
            await one._fleet.beat()

    async def _sweep(self, store: RedisStore) -> None:
        now = self.clock.now()
        for one in await store.expired(now=now, limit=1000):
            await store.end(
                one.room,
                one.participant,
                epoch=one.epoch,
                reason="expired",
                now=now,
                if_expired=True,
            )

    def _one_of(self, keys: Iterable[Key], pick: int) -> Key:
        ordered = list(keys)
        return ordered[pick % len(ordered)]


@pytest.fixture
def busy(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people of five are as little news here as eight of four hundred are on a node of the usual size."""
    monkeypatch.setattr(reports, "NEWS_SHARE", 0.4)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("busy")
def test_no_node_is_promised_to_more_than_it_takes(redis_server: RedisServer) -> None:
    broken = run_machine(CapacityMachine, server=redis_server, scripts=shifted_scripts())
    assert broken == [], "\n".join(broken)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("busy")
def test_a_script_that_asks_nobody_is_found(redis_server: RedisServer) -> None:
    """Without what the script knows of others, the last place is given away twice."""
    planted = edited(shifted_scripts(), "> spare then return {'behind'} end", "> 1e9 then end")
    assert run_machine(CapacityMachine, server=redis_server, scripts=planted)


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("gives_all_away", [False, True])
def test_replicas_that_give_everything_away_without_redis_are_found(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, *, gives_all_away: bool
) -> None:
    """Both are cut off and fill what they see; the machine notices when it is too much."""
    if gives_all_away:
        monkeypatch.setattr(Places, "spare_alone", Places.spare)
    members: dict[str, object] = {
        "server": redis_server,
        "scripts": shifted_scripts(),
        "broken": [],
    }
    machine: CapacityMachine = type("Machine", (CapacityMachine,), members)()
    try:
        machine.start(heard_by=(0, 0, 0))
        machine.cut(at=(0, 1))
        for at in (0, 1):
            with suppress(AssertionError):
                machine.join(at=at, room=RoomId("r1"), place="frankfurt", count=30)
    finally:
        machine.teardown()
    assert bool(machine.broken) == gives_all_away
