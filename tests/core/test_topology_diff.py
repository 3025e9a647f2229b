from dataclasses import replace
from ipaddress import ip_network

from controlplane.core.model import LinkSeed, Override, Policy, Topology, TurnServer
from controlplane.core.topology_diff import Change, ChangeKind, KeyChange, diff
from tests.core.build import region, topology

FRA, VIR = region("eu-frankfurt"), region("us-virginia")


def with_region(before: Topology, **changes: object) -> Topology:
    changed = replace(before.regions[VIR], **changes)  # type: ignore[arg-type]
    return replace(before, regions={**before.regions, VIR: changed})


def test_equal_topologies_do_not_differ_whatever_their_order() -> None:
    before = topology()
    after = replace(
        before,
        regions=dict(reversed(list(before.regions.items()))),
        links=tuple(
            LinkSeed((link.between[1], link.between[0]), link.rtt_ms) for link in before.links
        ),
    )
    assert diff(before, after) == ()


def test_a_region_that_changes_names_each_key_with_both_values() -> None:
    before = topology()
    after = with_region(
        before, desired_nodes=3, provider="aws", turn_servers=(TurnServer("turn.test"),)
    )
    (change,) = diff(before, after)
    assert change == Change(
        ChangeKind.CHANGE,
        "region",
        "us-virginia",
        (
            KeyChange("nodes.desired", "1", "3"),
            KeyChange("provider", None, "aws"),
            KeyChange("turn.servers", None, "turn.test:3478/443"),
        ),
    )


def test_what_comes_and_goes_has_one_side_only() -> None:
    changes = diff(topology("eu-frankfurt", "us-virginia"), topology("eu-frankfurt", "eu-paris"))
    assert [(one.kind.value, one.section, one.name) for one in changes] == [
        ("+", "region", "eu-paris"),
        ("-", "region", "us-virginia"),
        ("+", "link", "eu-frankfurt ↔ eu-paris"),
        ("-", "link", "eu-frankfurt ↔ us-virginia"),
    ]
    added, removed, *_ = changes
    assert KeyChange("title", None, "Paris") in added.keys
    assert KeyChange("residency", "us", None) in removed.keys


def test_links_overrides_and_policy_are_compared_by_value() -> None:
    before = topology("eu-frankfurt", "us-virginia")
    after = replace(
        before,
        links=(LinkSeed((VIR, FRA), 85.0, 0.02),),
        overrides=(Override(ip_network("10.0.0.0/8"), FRA),),
        policy=Policy(rehome_gain_ms=5),
    )
    assert [(one.section, one.name, one.keys) for one in diff(before, after)] == [
        (
            "link",
            "eu-frankfurt ↔ us-virginia",
            (KeyChange("rtt_ms", "90", "85"), KeyChange("cost_per_gb", None, "0.02")),
        ),
        ("override", "10.0.0.0/8", (KeyChange("region", None, "eu-frankfurt"),)),
        ("policy", "rehome_gain_ms", (KeyChange("value", "3", "5"),)),
    ]
