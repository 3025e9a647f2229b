"""SRTP: everything that a client sends fits, and nothing that it did not send is believed."""

import os
from types import SimpleNamespace

import pylibsrtp
import pytest

from relay.core.rtcp import picture_loss, receiver_report
from relay.transport import borrowed
from relay.transport.srtp import MAX_PACKET, REPLAY_WINDOW, Profile, SrtpContext, SrtpError
from tests.relay.packets import packet


@pytest.fixture(params=list(Profile), ids=lambda profile: profile.name)
def pair(request: pytest.FixtureRequest) -> tuple[SrtpContext, SrtpContext]:
    profile: Profile = request.param
    key = os.urandom(profile.key_bytes + profile.salt_bytes)
    return SrtpContext(profile, key, outbound=True), SrtpContext(profile, key, outbound=False)


@pytest.mark.parametrize("size", [1, 1200, 1357, 1400, 1472, MAX_PACKET - 40])
def test_packets_of_any_size_pass(pair: tuple[SrtpContext, SrtpContext], size: int) -> None:
    """The session of pylibsrtp stops at 1356 bytes, which GStreamer's default MTU exceeds."""
    sender, receiver = pair
    data = packet(1, payload=os.urandom(size))
    protected = sender.protect(data)
    assert protected != data
    assert receiver.unprotect(protected) == data


def test_what_is_too_large_is_refused(pair: tuple[SrtpContext, SrtpContext]) -> None:
    sender, receiver = pair
    for function in (
        sender.protect,
        receiver.unprotect,
        sender.protect_rtcp,
        receiver.unprotect_rtcp,
    ):
        with pytest.raises(SrtpError, match="more than"):
            function(bytes(MAX_PACKET + 1))


def test_rtcp_passes_too(pair: tuple[SrtpContext, SrtpContext]) -> None:
    sender, receiver = pair
    data = receiver_report(1, ()) + picture_loss(1, 2)
    assert receiver.unprotect_rtcp(sender.protect_rtcp(data)) == data


def test_a_packet_that_was_tampered_with_is_refused(pair: tuple[SrtpContext, SrtpContext]) -> None:
    sender, receiver = pair
    protected = sender.protect(packet(1, payload=os.urandom(100)))
    for position in (1, 3, 8, 20, len(protected) - 1):
        forged = bytearray(protected)
        forged[position] ^= 1
        with pytest.raises(SrtpError):
            receiver.unprotect(bytes(forged))
    assert receiver.unprotect(protected)  # the forgeries have spoilt nothing


def test_a_replay_is_refused_and_a_late_packet_is_not(
    pair: tuple[SrtpContext, SrtpContext],
) -> None:
    sender, receiver = pair
    sent = [sender.protect(packet(n)) for n in range(REPLAY_WINDOW + 10)]
    late = REPLAY_WINDOW - 1
    for number, one in enumerate(sent):
        if number != late:
            receiver.unprotect(one)
    for number in (0, late - 1, len(sent) - 1):
        with pytest.raises(SrtpError):
            receiver.unprotect(sent[number])
    assert receiver.unprotect(sent[late]) == packet(late)


def test_the_same_packet_may_be_sent_again(pair: tuple[SrtpContext, SrtpContext]) -> None:
    sender, receiver = pair
    first = sender.protect(packet(1))
    for number in range(2, 500):
        sender.protect(packet(number))
    again = sender.protect(packet(1))
    assert receiver.unprotect(first) == packet(1)
    with pytest.raises(SrtpError):
        receiver.unprotect(again)  # at the other end it is a replay, or the first that comes


def test_rubbish_is_refused(pair: tuple[SrtpContext, SrtpContext]) -> None:
    _, receiver = pair
    for size in (0, 1, 11, 12, 40, 1400):
        with pytest.raises(SrtpError):
            receiver.unprotect(b"\x80" + os.urandom(size))
        with pytest.raises(SrtpError):
            receiver.unprotect_rtcp(b"\x80" + os.urandom(size))


def test_a_stream_that_is_forgotten_leaves_the_others_alone(
    pair: tuple[SrtpContext, SrtpContext],
) -> None:
    sender, receiver = pair
    for ssrc in (1, 2):
        receiver.unprotect(sender.protect(packet(5, ssrc=ssrc)))
    receiver.forget(1)
    receiver.forget(1)
    receiver.forget(4711)
    assert receiver.unprotect(sender.protect(packet(6, ssrc=2))) == packet(6, ssrc=2)


@pytest.mark.parametrize("length", [0, 27, 29])
def test_a_key_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(SrtpError, match="16\\+12"):
        SrtpContext(Profile.AEAD_AES_128_GCM, bytes(length), outbound=True)


def test_the_borrowed_names_are_there() -> None:
    borrowed.self_test()


def test_a_library_that_moved_a_name_is_found_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borrowed, "srtp_library", SimpleNamespace(srtp_protect=None))
    monkeypatch.setattr(pylibsrtp, "Session", SimpleNamespace)
    with pytest.raises(RuntimeError, match=r"lib\.srtp_unprotect, .*Session\._srtp"):
        borrowed.self_test()
