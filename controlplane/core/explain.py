"""Sentences about a decision, for people who ask "why am I here?".

Nothing here decides anything. Each sentence stands alone; the most important comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.core.delay import Group
from controlplane.core.model import Candidate, Decision, Join, RegionId, RttSource, World
from controlplane.core.rtt import Estimates

MAX_REFUSALS_TOLD = 8
"""Nodes whose refusal is spelled out; a fleet may have hundreds, and all of them are among the candidates."""

_MEASURED: Mapping[RttSource, str] = {
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
    others: Sequence[Group]
    """Everybody else in the room."""
    world: World
    estimates: Estimates

    def title(self, region: RegionId) -> str:
        """Return the region's name for people."""
        known = self.world.topology.regions.get(region)
        return known.title if known else region


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
    sentences += [f"{one.node}: {one.refusal}" for one in candidates[:MAX_REFUSALS_TOLD]]
    if len(candidates) > MAX_REFUSALS_TOLD:
        sentences.append(f"… and {len(candidates) - MAX_REFUSALS_TOLD} more nodes")
    return tuple(sentences)


def runner_up(decision: Decision) -> tuple[Candidate, float] | None:
    """Return the best candidate of another region, else of the same, and by how many milliseconds it lost."""
    eligible = [one for one in decision.candidates if one.score is not None]
    chosen = next((one for one in eligible if one.node == decision.node), None)
    rest = [one for one in eligible if one.node != decision.node]
    if chosen is None or chosen.score is None or not rest:
        return None
    elsewhere = [one for one in rest if one.region != decision.region]
    best = (elsewhere or rest)[0]
    return best, (best.score or 0.0) - chosen.score


def _ms(value: float) -> str:
    return "under 1 ms" if value < 1 else f"{value:.0f} ms"


def _access(ranking: Ranking) -> str:
    chosen = ranking.chosen
    return _MEASURED[chosen.rtt.source].format(
        region=ranking.title(chosen.region), ms=_ms(chosen.rtt.rtt_ms)
    )


def _room(ranking: Ranking) -> str:
    others = sum(group.count for group in ranking.others)
    here = sum(group.count for group in ranking.others if group.region == ranking.chosen.region)
    rival = next(
        (
            one
            for one in ranking.candidates
            if one.score is not None and one.region != ranking.chosen.region
        ),
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
    nearest = min(ranking.candidates, key=lambda one: (one.rtt.rtt_ms, one.score is None, one.node))
    if nearest.region == chosen.region or nearest.rtt.rtt_ms >= chosen.rtt.rtt_ms:
        return ""
    title, rtt = ranking.title(nearest.region), _ms(nearest.rtt.rtt_ms)
    if nearest.score is None:
        return f"{title} is nearer ({rtt}) but cannot take this participant: {nearest.refusal}"
    more = _ms(nearest.score - (chosen.score or 0.0))
    return f"{title} is nearer ({rtt}) but costs the room {more} more"


def _node(ranking: Ranking) -> str:
    chosen = ranking.chosen
    if any(group.node == chosen.node for group in ranking.others):
        return f"{chosen.node} already carries the room"
    peers = sum(
        1 for one in ranking.candidates if one.region == chosen.region and one.score is not None
    )
    return f"{chosen.node} is the least loaded of {peers} nodes there" if peers > 1 else ""
