"""Several replicas in one process: each with services of its own, all on one state and one clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from controlplane.core.model import Assignment, NodeId, ParticipantId, Replica, RoomId
from controlplane.store.base import Admitted, Change, Conflict, Listener, StoreHealth
from controlplane.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.services.system import REPORT_S, SWEEP_S, System


@dataclass
class Together:
    """What the replicas share beside the state."""

    alive: dict[str, Replica] = field(default_factory=dict)
    listeners: dict[str, list[Listener]] = field(default_factory=dict)


class SharedStore(MemoryStore):
    """One replica's hand on a state that others have too."""

    def __init__(self, id_: str, state: MemoryStore, together: Together) -> None:
        super().__init__()
        self._view, self._hints, self._log = state._view, state._hints, state._log
        self._id = id_
        self._together = together
        self.mode: Literal["normal", "degraded"] = "normal"
        together.alive[id_] = Replica(id_, 0.0, f"{id_}.test:7443")
        together.listeners[id_] = []

    @property
    def replica(self) -> str:
        return self._id

    async def replicas(self) -> Mapping[str, Replica]:
        return dict(self._together.alive)

    def watch(self, listener: Listener) -> None:
        self._together.listeners[self._id].append(listener)

    async def health(self) -> StoreHealth:
        return StoreHealth(self.mode, 0.0, "a test says so" if self.mode == "degraded" else "")

    async def admit(
        self, proposal: Assignment, *, replaces: int | None, event: str, now: float
    ) -> Admitted | Conflict:
        before = self._view.live((proposal.room, proposal.participant))
        outcome = await super().admit(proposal, replaces=replaces, event=event, now=now)
        if isinstance(outcome, Admitted):
            self._tell(Change(before, outcome.assignment))
        return outcome

    async def end(
        self,
        room: RoomId,
        participant: ParticipantId,
        *,
        epoch: int | None,
        reason: str,
        now: float,
        if_expired: bool = False,
    ) -> Assignment | None:
        ended = await super().end(
            room, participant, epoch=epoch, reason=reason, now=now, if_expired=if_expired
        )
        if ended is not None:
            self._tell(Change(ended, None))
        return ended

    async def note_sessions(
        self, node: NodeId, seen: Mapping[tuple[RoomId, ParticipantId], Assignment], *, now: float
    ) -> None:
        before = {key: self._view.live(key) for key in seen}
        await super().note_sessions(node, seen, now=now)
        for key, one in before.items():
            self._tell(Change(one, self._view.live(key)))

    def _tell(self, change: Change) -> None:
        for id_, listeners in self._together.listeners.items():
            for listener in listeners if id_ != self._id else ():
                listener(change)


class Replicas:
    """A few replicas, and time that passes for all of them."""

    def __init__(self, *ids: str) -> None:
        self.clock = FakeClock()
        self.together = Together()
        state = MemoryStore()
        self.stores = {id_: SharedStore(id_, state, self.together) for id_ in ids}
        self.systems = {
            id_: System(store=store, clock=self.clock) for id_, store in self.stores.items()
        }
        self.alive = dict(self.systems)

    def __getitem__(self, id_: str) -> System:
        return self.systems[id_]

    async def kill(self, id_: str) -> None:
        """The process dies, and its heartbeat with it; nobody says that its nodes' sessions broke."""
        del self.alive[id_], self.together.alive[id_]

    async def move(self, node: str, before: str, after: str) -> None:
        """A node goes on with its warm session: what it says at the other replica is all that there is to say."""
        old = self.systems[before].nodes.pop(node)
        new = await self.systems[after].connect(node, old.region)
        new.here, new.links, new.rtts = dict(old.here), old.links, old.rtts
        await self.systems[after].report(new)

    async def run(self, seconds: float) -> None:
        """Let time pass: nodes report to the replicas that live, and those sweep."""
        for tick in range(1, round(seconds / SWEEP_S) + 1):
            self.clock.advance(SWEEP_S)
            for system in self.alive.values():
                for node in list(system.nodes.values()):
                    if node.alive and tick % round(REPORT_S / SWEEP_S) == 0:
                        await system.report(node)
            for system in self.alive.values():
                await system.sweep()


async def two_replicas() -> Replicas:
    """Return replicas "a" and "b"; nodes fra-1 and vir-1 are with "a", sin-1 and par-1 with "b"."""
    replicas = Replicas("a", "b")
    await replicas["a"].topologies.load("eu-frankfurt us-virginia ap-singapore eu-paris")
    for id_, nodes in (
        ("a", {"fra-1": "eu-frankfurt", "vir-1": "us-virginia"}),
        ("b", {"sin-1": "ap-singapore", "par-1": "eu-paris"}),
    ):
        for node, region in nodes.items():
            await replicas[id_].serving(node, region)
    await replicas.run(0.5)
    for system in replicas.systems.values():
        system.wakes.take()
    return replicas
