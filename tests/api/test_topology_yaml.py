"""Topology files: what a good one means, and how a bad one is explained."""

import contextlib
import ipaddress
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.adapters.topology_schema import json_schema
from controlplane.adapters.topology_yaml import MAX_BYTES, TopologyError, parse_topology
from controlplane.core.model import LinkSeed, Location, Override, Policy, TurnServer

REGIONS = Path(__file__).parents[2] / "regions"

GOOD = """\
version: 1
regions:
  eu-a:
    title: "Alpha"
    location: {lat: 50, lon: -8.5}
    residency: [eu, "no"]
    provider: aws
    nodes: {desired: 2, capacity: 99}
    turn:
      servers:
        - {host: turn.example.net, port: 3479}
      transports: [tls, udp]
  eu-b: {location: {lat: 1.0, lon: 2}}
links:
  - {between: [eu-a, eu-b], rtt_ms: 9, cost_per_gb: 0.02}
overrides:
  - {cidr: 10.20.0.0/16, region: eu-b}
  - {cidr: "2001:db8::/32", region: eu-a}
policy: {edge_weight: 0.5, probe_regions: 4}
"""


def test_every_key_arrives() -> None:
    topology = parse_topology(GOOD)
    alpha, beta = topology.regions.values()
    assert (alpha.id, alpha.title, alpha.location) == ("eu-a", "Alpha", Location(50.0, -8.5))
    assert (alpha.residency, alpha.provider) == (frozenset({"eu", "no"}), "aws")
    assert (alpha.desired_nodes, alpha.node_capacity) == (2, 99)
    assert alpha.turn_servers == (TurnServer("turn.example.net", 3479, 443),)
    assert alpha.turn_transports == ("tls", "udp")
    assert (beta.title, beta.turn_servers, beta.node_capacity) == ("eu-b", (), 400)
    assert topology.links == (LinkSeed((alpha.id, beta.id), 9.0, 0.02),)
    assert topology.overrides == (
        Override(ipaddress.ip_network("10.20.0.0/16"), beta.id),
        Override(ipaddress.ip_network("2001:db8::/32"), alpha.id),
    )
    assert topology.policy == Policy(edge_weight=0.5, probe_regions=4)


def test_the_demo() -> None:
    topology = parse_topology((REGIONS / "demo.yaml").read_text("utf-8"))
    assert [region.title for region in topology.regions.values()] == [
        "Frankfurt",
        "Virginia",
        "Singapore",
    ]
    assert [link.rtt_ms for link in topology.links] == [90, 162, 224]
    assert not any(region.turn_servers for region in topology.regions.values())


def test_the_schema_for_editors_is_that_of_the_parser() -> None:
    written = json.loads((REGIONS / "schema.json").read_text("utf-8"))
    assert written == json_schema(), "run `thalweg topology schema > regions/schema.json`"


R = "version: 1\nregions:\n  a: {location: {lat: 1, lon: 2}}\n"
"""Three good lines."""


@pytest.mark.parametrize(
    ("text", "line", "column", "code", "words"),
    [
        # Not YAML.
        ("a: [1, 2\nb: 3", 2, 2, "TOPO001", "flow sequence"),
        ("a: 1\n\tb: 2", 2, 1, "TOPO001", "token"),
        ("a: 1\nb: \x00", 2, 4, "TOPO001", "character"),
        # Too much.
        ("[" * 20_000, 1, 13, "TOPO002", "deeper than 12"),
        ("- " * 20_000, 1, 25, "TOPO002", "deeper than 12"),
        ("#" * MAX_BYTES + "#", 1, 1, "TOPO002", "64 KiB"),
        # Features.
        (R + "policy: &p {}\n", 4, 9, "TOPO003", "anchor"),
        (R + "policy: *p\n", 4, 9, "TOPO003", "alias"),
        (R + "policy: !!map {}\n", 4, 9, "TOPO003", "tag"),
        (R + "policy: !!python/object/apply:os.system [x]\n", 4, 9, "TOPO003", "tag"),
        (R + "---\na: 1\n", 4, 1, "TOPO003", "second document"),
        ("? [a]\n: 1\n", 1, 3, "TOPO003", "as a key"),
        # Unknown keys.
        (R + "link: []\n", 4, 1, "TOPO004", 'unknown key "link"'),
        ("version: 1\nregions:\n  a:\n    locaton: {lat: 1, lon: 2}\n", 4, 5, "TOPO004", "locaton"),
        # Missing keys.
        ("regions:\n  a: {location: {lat: 1, lon: 2}}\n", 1, 1, "TOPO005", '"version" is missing'),
        ("version: 1\nregions:\n  a: {title: A}\n", 3, 3, "TOPO005", '"location" is missing in "a"'),
        ("version: 1\nregions:\n  a: {location: {lat: 1}}\n", 3, 7, "TOPO005", '"lon" is missing'),
        # Types.
        ("", 1, 1, "TOPO006", "not a topology"),
        ("[]", 1, 1, "TOPO006", "not a topology"),
        ("version: 1\nregions:\n", 2, 1, "TOPO006", "regions"),
        ("version: 1\nregions:\n  a: {location: {lat: '1', lon: 2}}\n", 3, 23, "TOPO006", "number"),
        ("version: 1\nregions:\n  a: {location: {lat: yes, lon: 2}}\n", 3, 23, "TOPO006", "number"),
        (R + "policy: {probe_regions: 3.5}\n", 4, 25, "TOPO006", "integer"),
        # Values.
        ("version: 2\nregions:\n  a: {location: {lat: 1, lon: 2}}\n", 1, 10, "TOPO007", "1"),
        ("version: 1\nregions: {}\n", 2, 10, "TOPO007", "regions"),
        ("version: 1\nregions:\n  A b: {location: {lat: 1, lon: 2}}\n", 3, 3, "TOPO007", "A b"),
        ("version: 1\nregions:\n  a: {location: {lat: 91, lon: 2}}\n", 3, 23, "TOPO007", "90"),
        (R + "policy: {probe_regions: 8}\n", 4, 25, "TOPO007", "7"),
        # Duplicates.
        (R + "  a: {location: {lat: 3, lon: 4}}\n", 4, 3, "TOPO008", "second time; the first is in line 3"),
        (R + "version: 1\n", 4, 1, "TOPO008", "version"),
        # References.
        (R + "links:\n  - {between: [a, b]}\n", 5, 19, "TOPO009", 'no region "b"'),
        (R + "overrides:\n  - {cidr: 10.0.0.0/8, region: aa}\n", 5, 32, "TOPO009", 'no region "aa"'),
        # Address ranges.
        (R + "overrides:\n  - {cidr: 10.0.0.1/8, region: a}\n", 5, 12, "TOPO010", "inside of a range"),
        (R + "overrides:\n  - {cidr: x, region: a}\n", 5, 12, "TOPO010", "no CIDR"),
        (
            R + "overrides:\n  - {cidr: 10.0.0.0/8, region: a}\n  - {cidr: 10.0.0.0/8, region: a}\n",
            6, 12, "TOPO010", "second time",
        ),
        # Links.
        (R + "links:\n  - {between: [a, a]}\n", 5, 15, "TOPO011", "to itself"),
        (
            R + "  b: {location: {lat: 1, lon: 2}}\nlinks:\n  - {between: [a, b]}\n  - {between: [b, a]}\n",
            7, 15, "TOPO011", "second time",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_found_where_it_is(
    text: str, line: int, column: int, code: str, words: str
) -> None:
    begun = time.perf_counter()
    with pytest.raises(TopologyError) as caught:
        parse_topology(text, "f.yaml")
    assert time.perf_counter() - begun < 5
    problems = caught.value.problems
    assert (line, column, code) in {(one.line, one.column, one.code) for one in problems}, problems
    assert any(words in one.message for one in problems if one.code == code)
    assert all(one.file == "f.yaml" for one in problems)


def test_all_mistakes_come_at_once_in_order_of_lines() -> None:
    text = """\
version: 1
regions:
  eu-a: {titel: A, location: {lat: 95, lon: 2}}
  eu-b: &b {title: B}
links:
  - {between: [eu-a, eu-x]}
policy: {probe_regions: x}
"""
    with pytest.raises(TopologyError) as caught:
        parse_topology(text)
    codes = [(one.line, one.code) for one in caught.value.problems]
    assert codes == [
        (3, "TOPO004"), (3, "TOPO007"), (4, "TOPO005"), (4, "TOPO003"), (6, "TOPO009"), (7, "TOPO006"),
    ]  # fmt: skip


def test_a_problem_shows_its_line_and_what_to_do() -> None:
    with pytest.raises(TopologyError) as caught:
        parse_topology(R + "policy: {probe_region: 3}\n", "regions/x.yaml")
    assert str(caught.value.problems[0]).splitlines() == [
        'regions/x.yaml:4:10: TOPO004 unknown key "probe_region"',
        "    4 | policy: {probe_region: 3}",
        "      |          ^",
        '      = did you mean "probe_regions"? known keys here: edge_weight, probe_regions, '
        "rehome_gain_ms, rehomes_per_fleet, rehomes_per_room",
    ]


def test_a_long_list_of_mistakes_is_cut() -> None:
    text = "version: 1\nregions:\n" + "".join(f"  r{n}: {{}}\n" for n in range(150))
    with pytest.raises(TopologyError) as caught:
        parse_topology(text)
    assert len(caught.value.problems) == 50


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`,? \n\t1.~\x00é"), max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse_topology(text)
    assert str(caught.value.problems[0])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_edit_of_a_good_file_breaks_the_parser(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(begin, min(len(GOOD), begin + 20)))
    text = GOOD[:begin] + data.draw(st.text(max_size=5)) + GOOD[end:]
    with contextlib.suppress(TopologyError):  # anything else fails the test
        parse_topology(text)
