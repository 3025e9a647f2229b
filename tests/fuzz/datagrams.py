"""Targets of the node's UDP ports: what strangers can send, and what authenticated but hostile peers can."""

from contextlib import suppress
from functools import cache

import aioice.stun

from controlplane.cli.demo_stun import parse_message
from relay.core import rtcp, rtp, stun
from relay.core.model import EXTENSION_IDS, Codec, MediaKind, TrackInfo, extension_map
from relay.core.rooms import Rooms
from relay.core.sdp import parse_offer
from relay.engines.base import Identity
from relay.engines.embedded.dtls import DtlsSession
from relay.engines.embedded.port import Port
from relay.engines.embedded.publisher import Publisher
from relay.engines.embedded.subscriber import Subscriber
from relay.transport.srtp import Profile, SrtpContext, SrtpError
from relay.trunk.model import Endpoint, Offer, RoomOffers
from relay.trunk.trunk import Trunk, TrunkSession
from relay.trunk.udp import PROFILE, Carrier, TrunkCounters, TrunkSocket
from tests.fuzz.target import Target
from tests.relay.api.offers import PUBLISH, RECEIVE
from tests.relay.engine.peers import HERE, Call, certificate
from tests.relay.packets import VP8_KEY, one_byte_extension, packet

KEY = bytes(range(44))
STRANGER = ("192.0.2.99", 7)
FAR = ("127.0.0.1", 9)
NACK = rtcp.receiver_report(1, ()) + rtcp.nack(1, 7, [1, 2, 9])
REPORT = rtcp.sender_report(
    rtcp.SenderReport(7, 3.9e9, 1, 1, 1, (rtcp.ReportBlock(7, 1, 1, 1, 1, 1, 1),))
) + rtcp.source_description(7, "thalweg")
RTP = packet(1, 1, VP8_KEY, extension=one_byte_extension((4, b"0"), (3, b"\0\1")), padding=4)


def _check(ufrag: str, pwd: str) -> bytes:
    request = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{ufrag}:theirs"
    request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity(pwd.encode())
    return bytes(request)


def _stun(data: bytes) -> None:
    message = stun.parse(data)
    if message is not None:
        assert isinstance(message.username, str)
        assert message.authentic("another") is False


def _aioice(data: bytes) -> None:
    with suppress(ValueError):
        parse_message(data)


@cache
def _connected() -> tuple[Port, Call]:
    """Return a port with one connected client."""
    call, port = Call(), Port()
    call.connect()
    assert call.peer.is_connected
    port.add(call.peer)
    port.datagram_received(_check(call.peer.ufrag, call.peer.pwd), HERE)
    return port, call


def _port(data: bytes) -> None:
    port, call = _connected()
    port.datagram_received(data, STRANGER)
    port.datagram_received(data, HERE)
    call.sent.clear()
    call.peer.tick(1.0)
    if not call.peer.is_connected:  # an alert in the clear may end a session, as in every DTLS 1.2
        _connected.cache_clear()


certificate_once = cache(certificate)


def _dtls(data: bytes) -> None:
    """In each state of a handshake: before anything, after the first flight, and as the client."""
    ours = certificate_once()
    for is_server in (True, False):
        session = DtlsSession(ours, server=is_server, fingerprints=(("sha-256", "00"),))
        session.start()
        for part in (data, data[: len(data) // 2], data[len(data) // 2 :]):
            if len(part) >= 12:  # the port drops what is shorter
                session.receive(part)
            session.timeout_s()
            session.handle_timeout()
        session.close()


def _rtp(data: bytes) -> None:
    header = rtp.parse(data)
    if header is None:
        return
    assert header.payload_start <= header.payload_end <= len(data)
    out = rtp.remap_extensions(data, extension_map({"a": 1, "b": 3}, {"a": 2, "b": 4}))
    assert rtp.parse(out) is not None
    assert rtp.parse(rtp.with_header(out, 96, 1, 1, 1)) is not None
    wrapped = rtp.wrap_rtx(out, 97, 1, 1)
    assert rtp.unwrap_rtx(wrapped, 96, 1) is not None
    rtp.unwrap_rtx(data, 96, 1)


def _rtcp(data: bytes) -> None:
    for one in rtcp.parse(data):
        if isinstance(one, rtcp.Nack):
            assert len(one.sequences) <= rtcp.MAX_NACKED


def _srtp(data: bytes) -> None:
    for profile in Profile:
        context = SrtpContext(
            profile, KEY[: profile.key_bytes + profile.salt_bytes], outbound=False
        )
        for opened in (context.unprotect, context.unprotect_rtcp):
            try:
                opened(data)
            except SrtpError:
                continue


@cache
def _session() -> tuple[Publisher, Subscriber]:
    """Return two sessions of one room, as they are behind SRTP."""
    rooms, publishing, receiving = Rooms(), Call(), Call()
    publisher = Publisher(Identity("r", "ana", 1, True), "n1", rooms)
    publisher.accept(parse_offer(PUBLISH))
    publisher.use(publishing.peer)
    subscriber = Subscriber(Identity("r", "bob", 1, False), rooms, None)
    subscriber.accept(parse_offer(RECEIVE), receiving.peer)
    publishing.connect()
    receiving.connect()
    publisher.connected(0.0)
    subscriber.connected(0.0)
    return publisher, subscriber


_now = 0.0


def _client(data: bytes) -> None:
    """A client with a valid token, whose packets authenticate, and who means harm."""
    global _now  # noqa: PLW0603 - time goes on from input to input
    _now += 0.01
    publisher, subscriber = _session()
    publisher.take_rtp(data, _now)
    for session in (publisher, subscriber):
        session.take_rtcp(rtcp.parse(data), _now)
        session.tick(_now)


@cache
def _trunk() -> tuple[TrunkSocket, Trunk]:
    """Return a trunk over which one track comes."""
    counters = TrunkCounters()
    trunk = Trunk("a", "b", Rooms(), counters)
    socket = _Deaf()
    carrier = Carrier(socket, trunk, Endpoint(*FAR), send_key=KEY, receive_key=KEY)
    session = TrunkSession(1, carrier, 0.0)
    trunk.begin(session)
    trunk._up(session)
    trunk.link(frozenset("r"), frozenset("r"), 0.0)
    info = TrackInfo("t", "r", "p", MediaKind.VIDEO, Codec("vp8", 90_000), "b", 1)
    trunk.receiver.offered(RoomOffers("r", (Offer(info, 7, EXTENSION_IDS),)))
    return socket, trunk


class _Deaf(TrunkSocket):
    """A trunk's socket that is bound nowhere."""

    @property
    def local(self) -> Endpoint:
        return Endpoint("127.0.0.1", 1)


def _trunk_port(data: bytes) -> None:
    socket, _ = _trunk()
    socket.datagram_received(data, STRANGER)
    socket.datagram_received(data, FAR)


def _node(data: bytes) -> None:
    """Another node with a valid certificate, whose packets authenticate, and who means harm."""
    global _now  # noqa: PLW0603 - time goes on from input to input
    _now += 0.01
    _, trunk = _trunk()
    if len(data) >= 12:
        trunk.take_rtp(data, _now)
    trunk.take_rtcp(data, _now)
    trunk.tick(_now)


def _protected(data: bytes) -> bytes:
    return SrtpContext(PROFILE, KEY, outbound=True).protect(data)


_CHECK = _check("ufrag", "pwd")
_HELLO = DtlsSession(certificate(), server=False, fingerprints=()).start()[0]

TARGETS = {
    "stun": Target(_stun, (_CHECK, stun.binding_request(bytes(12), size=48))),
    "aioice's STUN": Target(_aioice, (_CHECK, stun.binding_success(bytes(12), STRANGER, "pwd"))),
    "media port": Target(_port, (_CHECK, _HELLO, RTP, NACK, REPORT)),
    "dtls": Target(_dtls, (_HELLO,)),
    "rtp": Target(_rtp, (RTP, packet(2, csrcs=(1, 2)))),
    "rtcp": Target(_rtcp, (NACK, REPORT, rtcp.picture_loss(1, 7))),
    "srtp": Target(_srtp, (_protected(RTP), RTP, NACK)),
    "client's media": Target(_client, (RTP, packet(2, payload_type=97), NACK, REPORT)),
    "trunk port": Target(_trunk_port, (_protected(RTP), RTP, NACK)),
    "trunk's media": Target(_node, (RTP, packet(3, 9, VP8_KEY), NACK, REPORT)),
}
