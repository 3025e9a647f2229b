"""Why somebody sits where they sit, and where somebody would go who only asks. Reads only."""

from dataclasses import dataclass

from controlplane.core.allocate import Refused
from controlplane.core.model import (
    Decision,
    Join,
    Location,
    ParticipantId,
    Role,
    RoomId,
    Topology,
)
from controlplane.core.sums import Sums, without
from controlplane.services.joins import Joins
from controlplane.services.refusals import no_participant
from controlplane.services.topologies import Topologies
from controlplane.store.base import Store


@dataclass(frozen=True, slots=True)
class Explained:
    """A decision, and what has to be known to tell it."""

    room: RoomId | None
    participant: ParticipantId | None
    """None for somebody who only asks."""
    role: Role
    decision: Decision | Refused
    decided_at: float
    location: Location | None
    location_source: str
    others: Sums
    """Everybody else in the room, now."""
    topology: Topology


class Explaining:
    """Use cases around the question "why?"."""

    def __init__(self, store: Store, topologies: Topologies, joins: Joins) -> None:
        self._store = store
        self._topologies = topologies
        self._joins = joins

    async def seat(self, room: RoomId, participant: ParticipantId) -> Explained:
        """Explain a live assignment. Raises NotFoundError ("participant-not-found")."""
        found = await self._store.assignment(room, participant)
        if found is None:
            raise no_participant(room, participant)
        current = await self._topologies.current()
        decision = found.decision
        return Explained(
            room=room,
            participant=participant,
            role=found.role,
            decision=decision,
            decided_at=decision.decided_at,
            location=decision.location,
            location_source=decision.location_source,
            others=without(await self._store.sums(room), found),
            topology=current.topology,
        )

    async def preview(self, join: Join) -> Explained:
        """Explain what a join would be told; an empty room id is a room in which nobody is.

        That nobody can take the participant is an answer here. Raises InvalidInputError ("unknown-region").
        """
        preview = await self._joins.preview(join)
        return Explained(
            room=join.room or None,
            participant=None,
            role=join.role,
            decision=preview.decision,
            decided_at=preview.decided_at,
            location=preview.estimates.location,
            location_source=preview.estimates.location_source,
            others=preview.others,
            topology=preview.topology,
        )
