"""The hard rules of placement, each with a name and a sentence. They come before every score.

Rules about whole regions come first, then those about single nodes in the order of RULES; the first that refuses is
the one that is named. What a rule says begins with its name, so that programs can tell them apart too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.core.liveness import STALE_S
from controlplane.core.load import corrected_load
from controlplane.core.model import Join, Node, NodeState, Region, RegionId


@dataclass(frozen=True, slots=True)
class Case:
    """One node for one join."""

    node: Node
    placed: int
    """Own placements that its last report cannot know."""
    join: Join
    now: float


def region_refusal(
    join: Join, id_: RegionId, region: Region | None, *, but: str | None = None
) -> str | None:
    """Return "rule: why not" for a whole region, or None; the rule named `but` is left out.

    `region` is None when the topology does not declare it (any more).
    """
    if region is None:
        return f"region: {id_} is not declared in the topology"
    missing = join.require.residency - region.residency
    if missing and but != RESIDENCY:
        return f"{RESIDENCY}: {id_} does not carry {', '.join(sorted(missing))}"
    if join.require.regions and id_ not in join.require.regions:
        return f"region: {id_} is not among the required regions"
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
    load = corrected_load(case.node, case.placed)
    if load < 1:
        return None
    return f"{load * 100:.0f} % of its {case.node.capacity} places are taken"


RESIDENCY = "residency"
LIVE_RULES = ("lost", "suspect", "joining", "stale")
"""Rules that say a node is not there (any more, yet), as opposed to not willing."""

RULES: Mapping[str, Callable[[Case], str | None]] = {
    "lost": _lost,
    "suspect": _suspect,
    "joining": _joining,
    "stale": _stale,
    "draining": _draining,
    "full": _full,
    "excluded": _excluded,
}
"""The rules about single nodes, in order: what ails the node itself tells more than that somebody avoids it."""


def node_refusal(case: Case) -> str | None:
    """Return "rule: why not" of the first rule that refuses the node, or None."""
    for name, rule in RULES.items():
        why = rule(case)
        if why is not None:
            return f"{name}: {why}"
    return None


def rule_of(sentence: str) -> str:
    """Return the name of the rule that said this."""
    return sentence.partition(":")[0]
