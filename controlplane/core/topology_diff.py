"""What differs between two topologies, key by key as operators write them.

Semantic, not textual: order, comments and spelled-out defaults make no difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from controlplane.core.model import Location, Policy, Region, Topology, TurnServer

Values = Mapping[str, str]
"""Key as in the file, with dots → the value for people."""


class ChangeKind(StrEnum):
    """What happens to an entry; the symbols are those of `terraform plan`."""

    ADD = "+"
    CHANGE = "~"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key of an entry."""

    key: str
    before: str | None
    """None for a key that was not there."""
    after: str | None
    """None for a key that goes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the topology."""

    kind: ChangeKind
    section: str
    """"region", "link", "override" or "policy"."""
    name: str
    keys: tuple[KeyChange, ...]


def diff(before: Topology, after: Topology) -> tuple[Change, ...]:
    """Return what turns one topology into the other: regions, links, overrides, policy, each in order of name."""
    sections = (
        ("region", _regions(before), _regions(after)),
        ("link", _links(before), _links(after)),
        ("override", _overrides(before), _overrides(after)),
        ("policy", _policy(before.policy), _policy(after.policy)),
    )
    return tuple(
        change
        for section, old, new in sections
        for name in sorted({*old, *new})
        if (change := _change(section, name, old.get(name), new.get(name))) is not None
    )


def _change(section: str, name: str, old: Values | None, new: Values | None) -> Change | None:
    was, will = old or {}, new or {}
    keys = tuple(
        KeyChange(key, was.get(key), will.get(key))
        for key in dict.fromkeys((*was, *will))
        if was.get(key) != will.get(key)
    )
    if old is not None and new is not None:
        return Change(ChangeKind.CHANGE, section, name, keys) if keys else None
    return Change(ChangeKind.REMOVE if new is None else ChangeKind.ADD, section, name, keys)


def _regions(topology: Topology) -> dict[str, Values]:
    return {id_: _region(region) for id_, region in topology.regions.items()}


def _region(region: Region) -> Values:
    values = {
        "title": region.title,
        "location": _place(region.location),
        "residency": ", ".join(sorted(region.residency)),
        "provider": region.provider or "",
        "nodes.desired": str(region.desired_nodes),
        "nodes.capacity": str(region.node_capacity),
        "turn.servers": ", ".join(map(_turn, region.turn_servers)),
        "turn.transports": ", ".join(region.turn_transports),
    }
    return {key: value for key, value in values.items() if value}


def _place(location: Location) -> str:
    return f"{location.lat:g}, {location.lon:g}"


def _turn(server: TurnServer) -> str:
    return f"{server.host}:{server.port}/{server.tls_port}"


def _links(topology: Topology) -> dict[str, Values]:
    return {
        " ↔ ".join(sorted(link.between)): {
            key: f"{value:g}"
            for key, value in (("rtt_ms", link.rtt_ms), ("cost_per_gb", link.cost_per_gb))
            if value is not None
        }
        for link in topology.links
    }


def _overrides(topology: Topology) -> dict[str, Values]:
    return {str(one.cidr): {"region": one.region} for one in topology.overrides}


def _policy(policy: Policy) -> dict[str, Values]:
    return {key: {"value": f"{getattr(policy, key):g}"} for key in Policy.__dataclass_fields__}
