"""Sentences about a decision, for people who ask "why am I here?".

Nothing here decides anything. Each sentence stands alone; the most important comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.core.model import Candidate, Decision, Join, RegionId, RttSource, Topology
from controlplane.core.rtt import Estimates
from controlplane.core.sums import Sums

MAX_REFUSALS_TOLD = 8
"""Nodes whose refusal is spelled out; a fleet may have hundreds, and all of them are among the candidates."""

_MEASURED: Mapping[RttSource, str] = {
    RttSource.SESSION: "{region} answers in {ms} (measured in the call)",
    RttSource.PROBE: "{region} answers in {ms} (probe)",
    RttSource.LEARNED: "{region} answers in {ms} (learned from calls of the same network)",
    RttSource.VIA_MESH: "{region} should answer in {ms} (through a probed region and the mesh)",
    RttSource.OVERRIDE: "{region} should answer in {ms} (the operator's override for this address)",
    RttSource.GEO: "{region} should answer in {ms} (distance from the address's place)",
    RttSource.UNKNOWN: "Nothing is known of this client's round trips; {region} counts like any other region",
}

_GAINS: Mapping[str, str] = {
    "delay": "the shorter way to the others",
    "edge": "repairing loss nearer to the client",
    "load": "the emptier node",
}
"""What each term of the score means for people."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A decision that was just made, with what it was made of."""

    chosen: Candidate
    candidates: Sequence[Candidate]
    """The best first, refused ones last."""
    others: Sums
    """Everybody else in the room."""
    people: Mapping[RegionId, int]
    """How many of them sit in each region."""
    nodes: int
    """How many the chosen region has."""
    topology: Topology
    estimates: Estimates

    def title(self, region: RegionId) -> str:
        """Return the region's name for people."""
        return _title(region, self.topology)


def explain(ranking: Ranking) -> tuple[str, ...]:
    """Return why the chosen node was chosen."""
    sentences = [
        _access(ranking),
        _room(ranking),
        _nearer(ranking),
        _node(ranking),
        *ranking.estimates.notes,
    ]
    return tuple(one for one in sentences if one)


def explain_refusal(
    join: Join, candidates: Sequence[Candidate], allowed: Sequence[RegionId]
) -> tuple[str, ...]:
    """Return why nobody could take the participant."""
    sentences = []
    if join.require.residency or join.require.regions:
        where = ", ".join(allowed) or "no declared region"
        sentences.append(f"The join's requirements leave {where}")
    if not candidates:
        sentences.append("No node has registered")
    told = [sentence for one in candidates for sentence in _refusals(one)]
    sentences += told[:MAX_REFUSALS_TOLD]
    if len(told) > MAX_REFUSALS_TOLD:
        sentences.append(f"… and {len(told) - MAX_REFUSALS_TOLD} more")
    return tuple(sentences)


def _refusals(candidate: Candidate) -> list[str]:
    if candidate.refused:
        return [f"{node}: {why}" for node, why in candidate.refused.items()]
    return [f"{candidate.region}: {candidate.refusal}"]


def explain_rehome(decision: Decision, region: RegionId, topology: Topology) -> tuple[str, ...]:
    """Return what is to be said of a region to which the whole room's plan moves somebody.

    `decision` is what would have been decided for that person alone.
    """
    chosen = next(one for one in decision.candidates if one.region == region)
    best = decision.candidates[0]
    sentences = [_answers(chosen, topology)]
    if best.region != region and best.score is not None and chosen.score is not None:
        more = _ms(chosen.score - best.score)
        sentences.append(
            f"{_title(best.region, topology)} would cost {more} less for this participant alone, more for the room"
        )
    return tuple(sentences)


def runner_up(decision: Decision) -> tuple[Candidate, float] | None:
    """Return the best candidate of another region, and by how many milliseconds its score is worse.

    That is negative for somebody whom the whole room's plan moved, or who went to a fallback: then the region is not
    the best for that person alone.
    """
    chosen = next((one for one in decision.candidates if one.region == decision.region), None)
    rest = (one for one in decision.candidates if one.region != decision.region)
    rival = next((one for one in rest if one.score is not None), None)
    if rival is None or rival.score is None or chosen is None or chosen.score is None:
        return None
    return rival, rival.score - chosen.score


def _title(region: RegionId, topology: Topology) -> str:
    known = topology.regions.get(region)
    return known.title if known else region


def _ms(value: float) -> str:
    return "under 1 ms" if value < 1 else f"{value:.0f} ms"


def _access(ranking: Ranking) -> str:
    return _answers(ranking.chosen, ranking.topology)


def _answers(one: Candidate, topology: Topology) -> str:
    """Say how far a region is, and how that is known."""
    return _MEASURED[one.rtt.source].format(
        region=_title(one.region, topology), ms=_ms(one.rtt.rtt_ms)
    )


def _room(ranking: Ranking) -> str:
    others = sum(ranking.people.values())
    here = ranking.people.get(ranking.chosen.region, 0)
    rival = next(
        (one for one in ranking.candidates[1:] if one.score is not None),
        None,
    )
    if not others and ranking.chosen.rtt.source is RttSource.UNKNOWN:
        return "first in the room, and all regions look alike: load decides, then the room's name"
    if not others:
        return "first in the room: the best region for this client alone"
    people = f"{here} other{'s' if here > 1 else ''}" if here else ""
    if rival is None:
        return f"joining {people} here" if here else "no other region can take the participant"
    gap = _ms((rival.score or 0.0) - (ranking.chosen.score or 0.0))
    title = ranking.title(rival.region)
    if here:
        return f"joining {people} here costs the room {gap} less than {title}"
    why = _GAINS[_greatest_gain(ranking.chosen, rival)]
    return f"costs the room {gap} less than {title}, mostly by {why}"


def _greatest_gain(chosen: Candidate, rival: Candidate) -> str:
    """Return the term of the score in which the chosen node is most ahead of a rival."""
    return max(_GAINS, key=lambda term: rival.terms.get(term, 0.0) - chosen.terms.get(term, 0.0))


def _nearer(ranking: Ranking) -> str:
    """Say why a region that answers faster was not taken; nothing when there is none."""
    chosen = ranking.chosen
    nearer = [one for one in ranking.candidates if one.rtt.rtt_ms < chosen.rtt.rtt_ms]
    if not nearer:
        return ""
    nearest = min(nearer, key=lambda one: (one.rtt.rtt_ms, one.score is None, one.region))
    title, rtt = ranking.title(nearest.region), _ms(nearest.rtt.rtt_ms)
    if nearest.score is None:
        return f"{title} is nearer ({rtt}) but cannot take this participant: {nearest.refusal}"
    more = _ms(nearest.score - (chosen.score or 0.0))
    return f"{title} is nearer ({rtt}) but costs the room {more} more"


def _node(ranking: Ranking) -> str:
    chosen = ranking.chosen
    if chosen.node in ranking.others:
        return f"{chosen.node} already carries the room"
    able = ranking.nodes - len(chosen.refused)
    return f"{chosen.node} is the least loaded of {able} nodes there" if able > 1 else ""
