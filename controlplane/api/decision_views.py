"""What callers get back about decisions: the whole reasoning, and the same as a person would tell it."""

from pydantic import Field

from controlplane.api.views import CandidateView, Place, View
from controlplane.core.allocate import Refused
from controlplane.core.identity import Caller
from controlplane.core.model import Decision
from controlplane.core.telling import Subject, tell
from controlplane.services.explaining import Explained


class RegionCount(View):
    """Others of the room in one region."""

    region: str
    participants: int


class ExplainedView(View):
    """A decision with everything that was considered."""

    room: str | None
    participant: str | None = Field(description="Null for a decision that admits nobody.")
    role: str
    node: str | None = Field(description="Null when nobody can take the participant.")
    region: str | None
    decided_at: float = Field(description="Seconds since 1970.")
    location: Place | None
    location_source: str
    told: list[str] = Field(description="The decision as a person would tell it.")
    because: list[str] = Field(description="What the decision itself gave as reasons.")
    candidates: list[CandidateView] = Field(
        description="Every region that has nodes, the best first."
    )
    others: int = Field(description="People who were in the room already.")
    company: list[RegionCount] = Field(description="Who else is in the room now, by region.")
    refusal: str | None = Field(
        description="residency, capacity or no_nodes: what a join would be refused for."
    )

    @classmethod
    def of(cls, explained: Explained, caller: Caller) -> "ExplainedView":
        """Return the caller's view of an explained decision."""
        decision = explained.decision
        subject = Subject(explained.participant, explained.others, explained.topology)
        counts: dict[str, int] = {}
        for group in explained.others.values():
            counts[group.region] = counts.get(group.region, 0) + group.count
        placed = decision if isinstance(decision, Decision) else None
        return cls(
            room=None if explained.room is None else caller.shown(explained.room),
            participant=explained.participant,
            role=explained.role,
            node=placed.node if placed else None,
            region=placed.region if placed else None,
            decided_at=explained.decided_at,
            location=Place.of(explained.location),
            location_source=explained.location_source,
            told=list(tell(decision, subject)),
            because=list(decision.because),
            candidates=[CandidateView.of(candidate) for candidate in decision.candidates],
            others=placed.others if placed else sum(counts.values()),
            company=[
                RegionCount(region=region, participants=count)
                for region, count in sorted(counts.items())
            ],
            refusal=decision.kind.value if isinstance(decision, Refused) else None,
        )
