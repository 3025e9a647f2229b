"""What callers get back from dry runs: who would move, and what it would do."""

from collections.abc import Sequence
from typing import Literal

from pydantic import ConfigDict, Field, RootModel

from controlplane.api.fleet_views import DisplacedView, NodeAnswer, TopologyAnswer
from controlplane.api.views import View
from controlplane.core.drain_plan import DrainPlan
from controlplane.core.topology_diff import Change
from controlplane.core.topology_plan import (
    DelayFigures,
    PlannedMove,
    RegionCapacity,
    TopologyPlan,
)
from controlplane.services.planning import TopologyChange

MAX_MOVES = 1000
"""People who are named; the rest is counted."""


class KeyChangeView(View):
    """One key of an entry; null for what is not there."""

    key: str
    before: str | None
    after: str | None


class ChangeView(View):
    """One entry of the topology."""

    kind: Literal["+", "~", "-"] = Field(description="Added, changed, removed.")
    section: Literal["region", "link", "override", "policy"]
    name: str
    keys: list[KeyChangeView]

    @classmethod
    def of(cls, change: Change) -> "ChangeView":
        """Return the view of a change."""
        keys = [
            KeyChangeView(key=one.key, before=one.before, after=one.after) for one in change.keys
        ]
        return cls.model_validate(
            {
                "kind": change.kind.value,
                "section": change.section,
                "name": change.name,
                "keys": keys,
            }
        )


class MoveView(View):
    """Somebody who would sit elsewhere."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_by_name=True)

    room: str
    participant: str
    from_region: str
    from_node: str
    to_region: str | None = Field(description="Null when nobody could take the participant.")
    to_node: str | None
    gain_ms: float | None = Field(
        description="What the room's mean cost wins with the step that the move belongs to; null if it has to be."
    )
    because: str

    @classmethod
    def of(cls, move: PlannedMove) -> "MoveView":
        """Return the view of a move."""
        gain = None if move.gain_ms is None else round(move.gain_ms, 3)
        return cls(
            room=move.room,
            participant=move.participant,
            from_region=move.from_region,
            from_node=move.from_node,
            to_region=move.to_region,
            to_node=move.to_node,
            gain_ms=gain,
            because=move.because,
        )


class DelayView(View):
    """Mean pair delay of rooms in which somebody hears somebody, one way, in milliseconds."""

    rooms: int
    p50_ms: float | None
    p95_ms: float | None

    @classmethod
    def of(cls, figures: DelayFigures) -> "DelayView":
        """Return the view of the figures."""
        p50, p95 = figures.p50_ms, figures.p95_ms
        return cls(
            rooms=figures.rooms,
            p50_ms=None if p50 is None else round(p50, 3),
            p95_ms=None if p95 is None else round(p95, 3),
        )


class CapacityView(View):
    """A region, and what were left if it were lost."""

    region: str
    nodes: int
    places: int
    in_use: int
    planned: bool = Field(description="No node is there yet: these are the desired ones.")
    left_if_lost: int = Field(
        description="Places of all other regions minus everybody; negative is a shortage."
    )

    @classmethod
    def of(cls, region: RegionCapacity) -> "CapacityView":
        """Return the view of a region's capacity."""
        return cls(
            region=region.region,
            nodes=region.nodes,
            places=region.places,
            in_use=region.in_use,
            planned=region.planned,
            left_if_lost=region.left_if_lost,
        )


class PlanView(View):
    """What a topology would do to the people who are there."""

    moves: list[MoveView] = Field(description="Those that have to be first, then by gain.")
    moves_total: int
    forced_total: int = Field(description="Of these, how many have to be.")
    stranded_total: int = Field(description="Of these, how many nobody could take.")
    residency_breaks: list[MoveView] = Field(
        description="Of the moves, those whose residency rule their region would break, or no region keep."
    )
    residency_breaks_total: int
    delay_before: DelayView
    delay_after: DelayView
    capacity: list[CapacityView]
    rooms_examined: int
    rooms_total: int
    people_examined: int

    @classmethod
    def of(cls, plan: TopologyPlan, rooms_total: int) -> "PlanView":
        """Return the view of a plan."""
        return cls(
            moves=_some(plan.moves),
            moves_total=len(plan.moves),
            forced_total=sum(move.gain_ms is None for move in plan.moves),
            stranded_total=len(plan.stranded),
            residency_breaks=_some(plan.residency_breaks),
            residency_breaks_total=len(plan.residency_breaks),
            delay_before=DelayView.of(plan.delay_before),
            delay_after=DelayView.of(plan.delay_after),
            capacity=[CapacityView.of(region) for region in plan.capacity],
            rooms_examined=plan.rooms_examined,
            rooms_total=max(rooms_total, plan.rooms_examined),
            people_examined=plan.people_examined,
        )


def _some(moves: Sequence[PlannedMove]) -> list[MoveView]:
    return [MoveView.of(move) for move in moves[:MAX_MOVES]]


class TopologyDiffAnswer(View):
    """What a new topology would do."""

    version: int = Field(description="The version that it was compared with.")
    added: list[str]
    removed: list[str]
    changed: list[str]
    would_move: list[DisplacedView] = Field(description="Some of those whose region would go.")
    would_move_total: int
    changes: list[ChangeView] = Field(description="What differs, key by key.")
    plan: PlanView

    @classmethod
    def of(cls, change: TopologyChange) -> "TopologyDiffAnswer":
        """Return the view of a dry run."""
        summary = change.summary
        moves = [
            DisplacedView(room=one.room, participant=one.participant, region=one.region)
            for one in summary.would_move
        ]
        return cls(
            version=summary.version,
            added=list(summary.added),
            removed=list(summary.removed),
            changed=list(summary.changed),
            would_move=moves,
            would_move_total=summary.would_move_total,
            changes=[ChangeView.of(one) for one in change.changes],
            plan=PlanView.of(change.plan, change.rooms),
        )


class TopologyOutcome(RootModel[TopologyAnswer | TopologyDiffAnswer]):
    """The new topology, or with dry_run what it would do."""


class DrainMoveView(View):
    """Somebody on the node."""

    room: str
    participant: str
    to_region: str | None = Field(description="Null when nobody could take the participant.")
    to_node: str | None
    because: str


class DrainPlanAnswer(View):
    """Where a node's people would go."""

    node: str
    moves: list[DrainMoveView]
    moves_total: int
    stranded_total: int = Field(description="How many nobody could take; they would stay.")

    @classmethod
    def of(cls, plan: DrainPlan) -> "DrainPlanAnswer":
        """Return the view of a drain's dry run."""
        moves = [
            DrainMoveView(
                room=move.room,
                participant=move.participant,
                to_region=move.to_region,
                to_node=move.to_node,
                because=move.because,
            )
            for move in plan.moves[:MAX_MOVES]
        ]
        return cls(
            node=plan.node,
            moves=moves,
            moves_total=len(plan.moves),
            stranded_total=plan.stranded,
        )


class DrainOutcome(RootModel[NodeAnswer | DrainPlanAnswer]):
    """The node as it drains, or with dry_run who would go where."""
