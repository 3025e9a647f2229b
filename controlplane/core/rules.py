"""The hard rules of placement, each with a name and a sentence. They come before every score.

Rules are checked in the order of RULES; the first that refuses is the one that is named. What a rule says begins with
its name, so that programs can tell them apart too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.core.liveness import STALE_S
from controlplane.core.load import corrected_load
from controlplane.core.model import Join, Node, NodeState, Region


@dataclass(frozen=True, slots=True)
class Case:
    """One node for one join."""

    node: Node
    region: Region | None
    """None when the topology no longer declares the node's region."""
    join: Join
    now: float


def _residency(case: Case) -> str | None:
    required = case.join.require.residency
    missing = required - (case.region.residency if case.region else frozenset())
    if not missing:
        return None
    return f"{case.node.region} does not carry {', '.join(sorted(missing))}"


def _region(case: Case) -> str | None:
    if case.region is None:
        return f"{case.node.region} is not declared in the topology"
    wanted = case.join.require.regions
    if wanted and case.node.region not in wanted:
        return f"{case.node.region} is not among the required regions"
    return None


def _excluded(case: Case) -> str | None:
    if case.node.id in case.join.exclude_nodes:
        return "the join asks not to use this node"
    return None


def _lost(case: Case) -> str | None:
    return _in_state(case, NodeState.LOST)


def _suspect(case: Case) -> str | None:
    return _in_state(case, NodeState.SUSPECT)


def _joining(case: Case) -> str | None:
    return _in_state(case, NodeState.JOINING)


def _draining(case: Case) -> str | None:
    return _in_state(case, NodeState.DRAINING)


def _in_state(case: Case, state: NodeState) -> str | None:
    if case.node.state is not state:
        return None
    return case.node.why or f"the node is {state.value}"


def _stale(case: Case) -> str | None:
    age = case.now - case.node.heard_at
    return f"last heard {age:.1f} s ago" if age > STALE_S else None


def _full(case: Case) -> str | None:
    load = corrected_load(case.node)
    if load < 1:
        return None
    return f"{load * 100:.0f} % of its {case.node.capacity} places are taken"


RESIDENCY = "residency"
LIVE_RULES = ("lost", "suspect", "joining", "stale")
"""Rules that say a node is not there (any more, yet), as opposed to not willing."""

RULES: Mapping[str, Callable[[Case], str | None]] = {
    RESIDENCY: _residency,
    "region": _region,
    "excluded": _excluded,
    "lost": _lost,
    "suspect": _suspect,
    "joining": _joining,
    "stale": _stale,
    "draining": _draining,
    "full": _full,
}


def refusal(case: Case, *, but: str | None = None) -> str | None:
    """Return "rule: why not" of the first rule that refuses, or None; the rule named `but` is left out."""
    for name, rule in RULES.items():
        why = None if name == but else rule(case)
        if why is not None:
            return f"{name}: {why}"
    return None


def rule_of(sentence: str) -> str:
    """Return the name of the rule that said this."""
    return sentence.partition(":")[0]
