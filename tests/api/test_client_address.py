"""Whose address counts."""

import ipaddress

import pytest

from controlplane.api.client_address import client_address

TRUSTED = [ipaddress.ip_network(cidr) for cidr in ("10.0.0.0/8", "2001:db8:a::/48")]


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
        (None, "10.0.0.1", ["198.51.100.1, " + ", ".join(["10.0.0.2"] * 100)], "10.0.0.2"),
    ],
)
def test_client_address(
    vouched: str | None, peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    found = client_address(vouched=vouched, peer=peer, forwarded_for=forwarded, trusted=TRUSTED)
    assert found == expected
