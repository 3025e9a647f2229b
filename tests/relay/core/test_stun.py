"""STUN: the first code that an unauthenticated datagram meets, checked against aioice's."""

import os

import aioice.stun
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import stun
from relay.engines.embedded import ice_lite

PASSWORD = "correct horse battery staple"
SOURCES = [("192.0.2.7", 40_000), ("2001:db8::7", 1), ("127.0.0.1", 65_535)]


def their_request(**attributes: object) -> bytes:
    """Return a check as aioice sends it."""
    request = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
    request.attributes["USERNAME"] = "ours:theirs"
    request.attributes["PRIORITY"] = 1
    request.attributes.update(attributes)
    request.add_message_integrity(PASSWORD.encode())
    return bytes(request)


@given(st.binary(max_size=600))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    stun.parse(data)


@given(st.binary(max_size=200).map(lambda b: b + bytes(-len(b) % 4)), st.integers(0, 0xFFFF))
def test_well_framed_nonsense_never_raises(body: bytes, kind: int) -> None:
    head = kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442")
    message = stun.parse(head + bytes(12) + body)
    if message is not None:
        assert not message.authentic(PASSWORD)
        assert message.username.isascii()


@given(st.data())
def test_a_request_that_was_tampered_with_is_not_authentic(data: st.DataObject) -> None:
    request = bytearray(their_request())
    position = data.draw(st.integers(0, len(request) - 9))  # all but the fingerprint
    request[position] ^= data.draw(st.integers(1, 255))
    message = stun.parse(bytes(request))
    assert message is None or not message.authentic(PASSWORD)


def test_a_request_of_aioice_is_understood() -> None:
    message = stun.parse(their_request(**{"USE-CANDIDATE": None}))
    assert message is not None
    assert message.kind == stun.BINDING_REQUEST
    assert message.username == "ours:theirs"
    assert stun.USE_CANDIDATE in message.attributes
    assert message.authentic(PASSWORD)
    assert not message.authentic("another password")


def test_a_request_without_integrity_is_not_authentic() -> None:
    message = stun.parse(stun.binding_request(os.urandom(12), size=48))
    assert message is not None
    assert not message.authentic(PASSWORD)


def test_attributes_after_the_integrity_are_not_believed() -> None:
    request = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
    request.attributes["USERNAME"] = "ours:theirs"
    request.add_message_integrity(PASSWORD.encode())
    data = bytearray(bytes(request) + stun.USE_CANDIDATE.to_bytes(2, "big") + b"\0\0")
    data[2:4] = (len(data) - 20).to_bytes(2, "big")
    message = stun.parse(bytes(data))
    assert message is not None
    assert message.authentic(PASSWORD)
    assert stun.USE_CANDIDATE not in message.attributes


@pytest.mark.parametrize("source", SOURCES)
def test_aioice_believes_our_answer(source: tuple[str, int]) -> None:
    transaction = os.urandom(12)
    answer = stun.binding_success(transaction, source, PASSWORD)
    theirs = aioice.stun.parse_message(answer)  # checks the fingerprint
    assert theirs.check_message_integrity(PASSWORD.encode())
    assert theirs.transaction_id == transaction
    assert theirs.message_class == aioice.stun.Class.RESPONSE
    assert theirs.attributes["XOR-MAPPED-ADDRESS"] == source
    assert not theirs.check_message_integrity(b"another password")


def test_a_zone_of_a_link_local_address_is_left_out() -> None:
    answer = stun.binding_success(bytes(12), ("fe80::1%eth0", 9))
    assert aioice.stun.parse_message(answer).attributes["XOR-MAPPED-ADDRESS"] == ("fe80::1", 9)


@pytest.mark.parametrize("source", SOURCES)
def test_an_unsigned_answer_is_no_larger_than_a_padded_request(source: tuple[str, int]) -> None:
    request = stun.binding_request(os.urandom(12), size=48)
    assert len(request) == 48
    assert aioice.stun.parse_message(request).message_method == aioice.stun.Method.BINDING
    assert len(stun.binding_success(bytes(12), source)) <= len(request)


@given(
    st.binary(max_size=300).map(lambda b: b + bytes(-len(b) % 4)),
    st.ip_addresses().map(str),
    st.integers(0, 65_535),
)
def test_no_answer_to_a_stranger_is_larger_than_the_request(
    body: bytes, host: str, port: int
) -> None:
    head = b"\0\x01" + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442")
    request = stun.parse(head + bytes(12) + body)
    if request is not None:
        answer = ice_lite.answer_probe(request, (host, port))
        assert answer is None or len(answer) <= len(request.datagram)


def test_aioice_takes_our_check_for_one_of_a_controlled_agent() -> None:
    transaction = os.urandom(12)
    theirs = aioice.stun.parse_message(stun.connectivity_check(transaction, "them:us", PASSWORD))
    assert theirs.message_class == aioice.stun.Class.REQUEST
    assert theirs.transaction_id == transaction
    assert theirs.check_message_integrity(PASSWORD.encode())
    assert theirs.attributes["USERNAME"] == "them:us"
    assert theirs.attributes["ICE-CONTROLLED"] == 0
    assert 0 < theirs.attributes["PRIORITY"] < 2**31
    assert "USE-CANDIDATE" not in theirs.attributes


@pytest.mark.parametrize("size", [0, 19, stun.MAX_SIZE + 1])
def test_sizes_out_of_bounds_are_refused(size: int) -> None:
    assert stun.parse(bytes(size)) is None
