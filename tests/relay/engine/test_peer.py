"""One client's transport without sockets: handshakes, hostile clients, and when it is over."""

import pytest

from relay.core import rtcp
from relay.engines.embedded import peer as peer_module
from relay.engines.embedded.dtls import DtlsState
from relay.engines.embedded.peer import CONNECT_WITHIN_S, CONSENT_S, Address
from tests.relay.engine.peers import HERE, Call, Handler
from tests.relay.packets import packet

ELSEWHERE: Address = ("192.0.2.2", 6000)


@pytest.fixture
def call() -> Call:
    one = Call()
    one.connect()
    return one


@pytest.mark.parametrize(
    ("setup", "answered"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
def test_the_roles_follow_the_offer(setup: str, answered: str) -> None:
    call = Call(setup)
    assert call.peer.local_transport(HERE, "", "").setup == answered
    call.connect()
    assert call.handler.connected_at == [0.01]
    assert call.peer.is_connected
    call.peer.send_rtp(packet(1))
    [(datagram, address)] = call.sent
    assert address == HERE
    assert call.client.srtp is not None
    assert call.client.srtp.inbound.unprotect(datagram) == packet(1)


@pytest.mark.parametrize(
    "fingerprint",
    [
        ("sha-256", "00:11"),
        ("sha-256", "ÄÖÜ"),  # as any text that an offer may carry
        ("sha-1", "AB"),
        ("md5", "AB"),
    ],
)
def test_a_certificate_that_is_not_the_offers_ends_it(fingerprint: tuple[str, str]) -> None:
    call = Call("actpass", fingerprint)
    call.connect()
    assert call.handler.connected_at == []
    assert not call.peer.is_connected
    assert str(call.peer.why_over(1.0)).startswith("dtls failed: the ")
    call.peer.dtls(bytes(20), 1.0)  # whatever comes now
    assert call.sent == []


def test_credentials_are_made_of_ice_chars() -> None:
    for _ in range(50):
        peer = Call().peer
        assert peer.ufrag.isalnum()
        assert peer.pwd.isalnum()
        assert len(peer.pwd) >= 22  # RFC 8839, section 5.4


def test_media_before_the_handshake_goes_nowhere() -> None:
    call = Call()
    call.peer.checked(HERE, nominated=True, now=0.0)
    call.peer.media(packet(1), 0.0)
    call.peer.send_rtp(packet(1))
    call.peer.send_rtcp(rtcp.picture_loss(1, 2))
    assert call.sent == []
    assert call.handler.rtp == []


def test_packets_of_a_stranger_are_counted_and_dropped(call: Call) -> None:
    call.peer.media(packet(1, payload=bytes(100)), 0.0)
    call.peer.media(b"\x80\xc9" + bytes(40), 0.0)
    assert call.peer.rejected_packets == 2
    assert call.handler == Handler(call.handler.connected_at)


def test_streams_of_one_client_are_bounded(call: Call) -> None:
    """Of each SSRC libsrtp keeps state for ever: a client that invents them must not make us slow."""
    for ssrc in range(peer_module.MAX_SSRCS + 100):
        call.peer.media(call.media(packet(1, ssrc=ssrc)), 0.0)
    assert len(call.handler.rtp) == peer_module.MAX_SSRCS
    call.peer.media(call.media(packet(2, ssrc=0)), 0.0)  # those who are known go on
    assert len(call.handler.rtp) == peer_module.MAX_SSRCS + 1


def test_forged_streams_take_nobodys_place(call: Call) -> None:
    for ssrc in range(peer_module.MAX_SSRCS + 100):
        call.peer.media(packet(1, payload=bytes(100), ssrc=1000 + ssrc), 0.0)
    call.peer.media(call.media(packet(1, ssrc=1)), 0.0)
    assert call.handler.rtp == [packet(1, ssrc=1)]


def test_application_data_does_not_pile_up_before_a_goodbye(call: Call) -> None:
    for _ in range(50):
        call.client._connection.send(bytes(1000))
        for datagram in call.client._outgoing():
            call.peer.dtls(datagram, 1.0)
    assert call.peer.why_over(1.0) is None
    for datagram in call.client.close():
        call.peer.dtls(datagram, 1.0)
    assert call.peer.why_over(1.0) == "dtls closed: the peer closed"
    assert not call.peer.is_connected


def test_a_goodbye_of_ours_reaches_the_client(call: Call) -> None:
    call.peer.close()
    for datagram, _ in call.sent:
        call.client.receive(datagram)
    assert call.client.state is DtlsState.CLOSED
    call.peer.close()
    call.peer.send_rtp(packet(1))


def test_rubbish_in_dtls_does_not_end_a_connection(call: Call) -> None:
    real = bytes([23, 254, 253, 0, 1]) + bytes(6) + b"\0\x20" + bytes(32)
    for data in (
        b"\x14" * 12,
        bytes([22]) + bytes(30),
        real,
        bytes([21, 254, 253]) + bytes(10) + b"\x02\x28",
    ):
        call.peer.dtls(data, 1.0)
    assert call.peer.is_connected
    assert call.peer.why_over(1.0) is None


def test_only_a_nominated_check_moves_the_media(call: Call) -> None:
    call.peer.checked(ELSEWHERE, nominated=False, now=1.0)
    call.peer.send_rtp(packet(1))
    call.peer.checked(ELSEWHERE, nominated=True, now=1.0)
    call.peer.send_rtp(packet(2))
    assert [address for _, address in call.sent] == [HERE, ELSEWHERE]


def test_who_does_not_connect_in_time_is_gone() -> None:
    call = Call()
    call.peer.checked(HERE, nominated=True, now=CONNECT_WITHIN_S)
    assert call.peer.why_over(CONNECT_WITHIN_S) is None
    assert "not connected" in str(call.peer.why_over(CONNECT_WITHIN_S + 0.1))


def test_who_does_not_renew_consent_is_gone(call: Call) -> None:
    call.peer.checked(HERE, nominated=False, now=100.0)
    assert call.peer.why_over(100.0 + CONSENT_S) is None
    assert "no sign of the client" in str(call.peer.why_over(100.1 + CONSENT_S))
