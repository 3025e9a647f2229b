"""Whose address counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.api.client_address import client_address
from controlplane.core.addresses import parse_network

TRUSTED = [parse_network(cidr) for cidr in ("10.0.0.0/8", "2001:db8:a::/48")]


@pytest.mark.parametrize(
    ("vouched", "peer", "forwarded", "expected"),
    [
        # The body wins, whatever the chain says.
        ("198.51.100.1", "10.0.0.1", ["203.0.113.9"], "198.51.100.1"),
        ("::ffff:198.51.100.1", None, [], "198.51.100.1"),
        ("2001:DB8::1", None, [], "2001:db8::1"),
        ("nonsense", "10.0.0.1", ["203.0.113.9"], None),
        # The signalling server's own address says nothing.
        (None, "203.0.113.1", [], None),
        (None, "10.0.0.1", [], None),
        # A chain counts only through a trusted peer.
        (None, "203.0.113.1", ["198.51.100.1"], None),
        (None, None, ["198.51.100.1"], None),
        (None, "10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        (None, "::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        (None, "2001:db8:a::1", ["198.51.100.1"], "198.51.100.1"),
        # It is walked from the right: what a client writes itself is left of what proxies append.
        (None, "10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        (None, "10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (None, "10.0.0.1", ["10.9.9.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (None, "10.0.0.1", ["1.1.1.1", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        (None, "10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # Forms that proxies write.
        (None, "10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        (None, "10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        (None, "10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        (None, "10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        (None, "10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        # What is no address ends the walk.
        (None, "10.0.0.1", ["198.51.100.1, unknown"], None),
        (None, "10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], None),
        (None, "10.0.0.1", ["198.51.100.1,"], None),
        (None, "10.0.0.1", [""], None),
        (None, "10.0.0.1", ["["], None),
        (None, "10.0.0.1", ["198.51.100.1", ""], None),
        (None, "10.0.0.1", ["[2001:db8::1]x"], None),
        (None, "10.0.0.1", ["[2001:db8::1"], "2001:db8::1"),
        (None, "10.0.0.1", ["fe80::1%eth0"], None),
        (None, "10.0.0.1", ["198.51.100.1, \x00"], None),
        (None, "10.0.0.1", ["198.51.100.1" + "0" * 100_000], None),
        (None, "10.0.0.1", [" \t198.51.100.1 \t"], "198.51.100.1"),
        # More hops than anybody has are made up, in one line or in many.
        (None, "10.0.0.1", ["198.51.100.1, " + ", ".join(["10.0.0.2"] * 100)], None),
        (None, "10.0.0.1", ["198.51.100.1", *["10.0.0.2"] * 100], None),
        (None, "10.0.0.1", ["198.51.100.1, " + ", ".join(["10.0.0.2"] * 31)], "198.51.100.1"),
        (None, "10.0.0.1", ["," * 100_000], None),
    ],
)
def test_client_address(
    vouched: str | None, peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    found = client_address(vouched=vouched, peer=peer, forwarded_for=forwarded, trusted=TRUSTED)
    assert found == expected


def test_a_proxy_may_be_trusted_by_its_mapped_address() -> None:
    trusted = [parse_network("::ffff:10.0.0.0/104")]
    found = client_address(
        vouched=None, peer="10.0.0.1", forwarded_for=["198.51.100.1"], trusted=trusted
    )
    assert found == "198.51.100.1"


chains = st.lists(
    st.text(max_size=80)
    | st.lists(st.sampled_from(["10.0.0.2", "198.51.100.1", "[::1]:1", "x", ""])).map(", ".join),
    max_size=5,
)


@given(chains)
def test_a_forged_header_changes_nothing_without_a_trusted_proxy(forged: list[str]) -> None:
    for trusted in ([], TRUSTED):
        found = client_address(
            vouched=None, peer="203.0.113.1", forwarded_for=forged, trusted=trusted
        )
        assert found is None


@given(chains)
def test_what_a_client_writes_itself_changes_nothing_behind_a_trusted_proxy(
    forged: list[str],
) -> None:
    for chain in ([*forged, "198.51.100.1, 10.0.0.2"], [", ".join([*forged, "198.51.100.1"])]):
        found = client_address(vouched=None, peer="10.0.0.1", forwarded_for=chain, trusted=TRUSTED)
        assert found == "198.51.100.1"
