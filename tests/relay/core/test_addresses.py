"""Whose a request is: nothing that a client writes counts, only what trusted proxies say."""

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.addresses import IpAddress, network_of
from relay.core.addresses import client_address, parse_address

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:f::/48")]


def known(text: str) -> IpAddress:
    address = parse_address(text)
    assert address is not None
    return address


def found(peer: str, *lines: str) -> str:
    return str(client_address(known(peer), lines, PROXIES))


@given(st.lists(st.text(max_size=60), max_size=4))
def test_without_a_trusted_proxy_the_connection_tells(lines: Sequence[str]) -> None:
    assert found("198.51.100.7", *lines) == "198.51.100.7"
    assert str(client_address(known("10.0.0.1"), lines, ())) == "10.0.0.1"


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (("203.0.113.9",), "203.0.113.9"),
        (("1.1.1.1, 203.0.113.9",), "203.0.113.9"),
        (("1.1.1.1", "203.0.113.9, 10.0.0.2"), "203.0.113.9"),
        (("203.0.113.9:4711",), "203.0.113.9"),
        (("[2001:db8::1]:4711, 2001:db8:f::1",), "2001:db8::1"),
        (("::ffff:203.0.113.9",), "203.0.113.9"),
        (("203.0.113.9, ::ffff:10.0.0.2",), "203.0.113.9"),
        (("1.1.1.1, unknown, 10.0.0.2",), "10.0.0.2"),
        (("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ((), "10.0.0.1"),
        (("",), "10.0.0.1"),
        (("x" * 100_000,), "10.0.0.1"),
        (("1.1.1.1," + "10.0.0.2," * 100 + "10.0.0.2",), "10.0.0.2"),
    ],
)
def test_the_first_stranger_from_the_right_is_the_client(
    lines: tuple[str, ...], client: str
) -> None:
    assert found("10.0.0.1", *lines) == client
    assert found("::ffff:10.0.0.1", *lines) == client


def test_a_subscriber_has_an_ipv4_address_or_a_64_of_ipv6() -> None:
    assert network_of(known("2001:db8::1")) == network_of(known("2001:db8::ffff:0:0:1%eth0"))
    assert network_of(known("2001:db8::1")) != network_of(known("2001:db8:0:1::1"))
    assert network_of(known("192.0.2.1")) == network_of(known("::ffff:192.0.2.1"))
    assert network_of(known("192.0.2.1")) != network_of(known("192.0.2.2"))
