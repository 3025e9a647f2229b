"""A decision as a person would tell it: where, why, how sure, what else was possible, who else is there.

core/explain.py says why while it decides; this frames it for somebody who asks later, without the numbers' table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.core.allocate import Refused
from controlplane.core.explain import runner_up
from controlplane.core.model import (
    Candidate,
    Decision,
    Location,
    ParticipantId,
    RegionId,
    RttSource,
    Topology,
)
from controlplane.core.rtt import MEASURED
from controlplane.core.sums import Sums

MAX_NAMED = 3
"""Refused regions, and regions of others, that are named; a table beside the sentences has all of them."""

_HOW: Mapping[RttSource, str] = {
    RttSource.SESSION: "a measurement of the running call",
    RttSource.PROBE: "the client's own measurement",
    RttSource.LEARNED: "learned from calls of the same network",
    RttSource.VIA_MESH: "worked out through regions that were measured",
    RttSource.OVERRIDE: "the operator's word for this address",
    RttSource.GEO: "a guess from the place of the address",
    RttSource.UNKNOWN: "no more than a guess",
}

_TERMS: Mapping[str, str] = {
    "delay": "delay",
    "edge": "repairing loss",
    "load": "fuller nodes",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose decision it is, and what is true now."""

    participant: ParticipantId | None
    """None for somebody who only might join."""
    others: Sums
    """Everybody else in the room."""
    topology: Topology

    def title(self, region: RegionId) -> str:
        """Return the region's name for people."""
        known = self.topology.regions.get(region)
        return known.title if known else region


def tell(decision: Decision | Refused, subject: Subject) -> tuple[str, ...]:
    """Return full sentences, in the order in which one would say them."""
    told = [_where(decision, subject)]
    told += [_sentence(one, decision, subject) for one in decision.because]
    if isinstance(decision, Decision):
        told.append(_how_sure(decision))
        told.append(_runner_up(decision, subject))
        told.append(_refused(decision.candidates, subject))
    told.append(_company(subject))
    return tuple(one for one in told if one)


def place_text(location: Location | None) -> str:
    """Return a location for people: degrees, and how sure."""
    if location is None:
        return "nowhere in particular"
    ns, ew = "S" if location.lat < 0 else "N", "W" if location.lon < 0 else "E"
    place = f"{abs(location.lat):.1f}° {ns}, {abs(location.lon):.1f}° {ew}"
    return (
        place
        if location.radius_km is None
        else f"{place}, give or take {location.radius_km:.0f} km"
    )


def _where(decision: Decision | Refused, subject: Subject) -> str:
    who = subject.participant
    if isinstance(decision, Refused):
        return f"Nobody can take {who or 'this client'} now."
    region = subject.title(decision.region)
    verb = f"{who} sits on" if who else "This client would go to"
    return f"{verb} {decision.node} in {region}."


def _sentence(text: str, decision: Decision | Refused, subject: Subject) -> str:
    """Return one of the decision's reasons as a sentence; ids keep their small letters."""
    first = text.split(" ", 1)[0].rstrip(":")
    ids = {one.region for one in decision.candidates} | {one.node for one in decision.candidates}
    ids |= {node for one in decision.candidates for node in one.refused} | {*subject.others}
    begun = text if first in ids else text[:1].upper() + text[1:]
    return begun if begun.endswith((".", "…")) else f"{begun}."


def _how_sure(decision: Decision) -> str:
    # A client that took its fallback sits in another region than the best one.
    here = (one for one in decision.candidates if one.region == decision.region)
    rtt = next(here, decision.candidates[0]).rtt
    if rtt.source is RttSource.UNKNOWN:
        return ""
    age = f", {_age(rtt.age_s)} old" if rtt.age_s >= 60 else ""
    sure = f"Its round trip there, {_ms(rtt.rtt_ms)} ± {max(1.0, rtt.spread_ms):.0f}, is {_HOW[rtt.source]}{age}"
    if rtt.source is RttSource.GEO:
        sure += f" ({place_text(decision.location)})"
    measured = sum(one.rtt.source in MEASURED for one in decision.candidates)
    guessed = len(decision.candidates) - measured
    if measured and guessed:
        sure += f"; {_count(measured, 'region')} measured, {guessed} estimated"
    return f"{sure}."


def _age(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _runner_up(decision: Decision, subject: Subject) -> str:
    """Say what the second best region would have cost, unless the reasons have named it already."""
    found = runner_up(decision)
    if found is None or decision.candidates[0].region != decision.region:
        return ""
    rival, gap = found
    title = subject.title(rival.region)
    if any(title in one for one in decision.because):
        return ""
    chosen = decision.candidates[0]
    worse = {term: rival.terms.get(term, 0.0) - chosen.terms.get(term, 0.0) for term in _TERMS}
    most = max(worse, key=worse.__getitem__)
    mostly = f", mostly for {_TERMS[most]}" if subject.others and worse[most] > 0 else ""
    return f"The runner-up, {title}, would have cost {_ms(gap)} more{mostly}."


def _refused(candidates: Sequence[Candidate], subject: Subject) -> str:
    refused = [one for one in candidates if one.refusal is not None]
    if not refused:
        return ""
    named = [f"{subject.title(one.region)} ({one.refusal})" for one in refused[:MAX_NAMED]]
    more = len(refused) - len(named)
    return f"Not possible: {'; '.join(named)}{f'; and {more} more' if more else ''}."


def _company(subject: Subject) -> str:
    by_region: dict[RegionId, int] = {}
    for group in subject.others.values():
        by_region[group.region] = by_region.get(group.region, 0) + group.count
    total = sum(by_region.values())
    if not total:
        return "Nobody else is in the room."
    ordered = sorted(by_region.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} in {subject.title(region)}" for region, count in ordered[:MAX_NAMED]]
    rest = total - sum(count for _, count in ordered[:MAX_NAMED])
    more = f", {rest} elsewhere" if rest else ""
    # A decision was made for those who were there then; what is told of the others is true now.
    begin = "Now with" if subject.participant else "With"
    return f"{begin} {_count(total, 'other')} in the room: {', '.join(named)}{more}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _ms(value: float) -> str:
    return "under 1 ms" if value < 1 else f"{value:.0f} ms"
