"""A port's two queues: what strangers send does not take the place of what is expected."""

import asyncio
import socket
from collections.abc import Iterator
from random import Random

import pytest

from relay.core import stun
from relay.core.rtp import FIXED_HEADER
from relay.core.socket_filter import MAX_KEYS, Program, rtp_only, source_key, stun_only
from relay.transport.udp import Address, UdpSocket
from tests.fakes.waiting import eventually

STUN = stun.binding_request(bytes(12), size=48)
RTP = FIXED_HEADER.pack(0x80, 96, 1, 1, 7) + b"payload"
DTLS = b"\x16\xfe\xfd" + bytes(30)


class Recorder(UdpSocket):
    """Notes what came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[tuple[bytes, Address]] = []

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.came.append((data, (addr[0], addr[1])))


@pytest.fixture
def sources() -> Iterator[list[socket.socket]]:
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
    for number, one in enumerate(made):
        one.bind((f"127.0.0.{1 + number % 5}", 0))
    yield made
    for one in made:
        one.close()


async def test_ipv6_sources_are_told_apart_too() -> None:
    port = Recorder()
    await port.open(("::1", 0), stun_only(stun.BINDING_REQUEST))
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as friend,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stranger,
    ):
        for one in (friend, stranger):
            one.bind(("::1", 0))
        port.expect([friend.getsockname()[:2]])
        for one in (stranger, friend):
            one.sendto(RTP, port.local_address)
        await eventually(lambda: None if port.came else "nothing")
        await asyncio.sleep(0.05)
        assert port.came == [(RTP, friend.getsockname()[:2])]
    port.close()


@pytest.mark.parametrize("more", [0, 1, 12, 13, 500, MAX_KEYS - 4])
async def test_expected_sources_pass_and_strangers_may_only_begin(
    more: int, sources: list[socket.socket]
) -> None:
    dice = Random(more)  # noqa: S311 - a seed, so that a failure comes again
    elsewhere = [
        (f"10.{dice.randrange(256)}.0.{dice.randrange(256)}", dice.randrange(1, 65536))
        for _ in range(more)
    ]
    port = Recorder()
    await port.open(("127.0.0.1", 0), stun_only(stun.BINDING_REQUEST))
    friends = sources[:4]
    port.expect([*elsewhere, *(one.getsockname() for one in friends)])
    for one in sources:
        for datagram in (RTP, DTLS, STUN, STUN[:40], b"", b"\0"):
            one.sendto(datagram, port.local_address)
    expected = {
        (datagram, one.getsockname())
        for one in friends
        for datagram in (RTP, DTLS, STUN, STUN[:40], b"\0")
    }
    expected |= {(STUN, one.getsockname()) for one in sources}
    await eventually(lambda: None if expected <= set(port.came) else "some are missing")
    assert {one for one in port.came if one[0]} == expected
    assert port.unqueued == (len(sources) - len(friends)) * 5
    port.expect([])
    port.came.clear()
    friends[0].sendto(RTP, port.local_address)
    friends[0].sendto(STUN, port.local_address)
    await eventually(lambda: None if port.came else "nothing")
    assert port.came == [(STUN, friends[0].getsockname())]
    port.close()


async def test_with_too_many_sources_only_requests_are_kept_apart(
    sources: list[socket.socket],
) -> None:
    port = Recorder()
    await port.open(("127.0.0.1", 0), stun_only(stun.BINDING_REQUEST))
    port.expect([("10.0.0.1", number) for number in range(1, MAX_KEYS + 2)])
    sources[0].sendto(RTP, port.local_address)
    sources[0].sendto(STUN, port.local_address)
    await eventually(lambda: None if len(port.came) == 2 else "some are missing")
    port.close()


@pytest.mark.parametrize(
    ("program", "datagram", "passes"),
    [
        (stun_only(stun.BINDING_REQUEST), STUN, True),
        (stun_only(stun.BINDING_SUCCESS), STUN, False),
        (stun_only(stun.BINDING_REQUEST), STUN + b"\0", False),
        (stun_only(stun.BINDING_REQUEST), b"\0\1\0\0", False),
        (rtp_only(), RTP, True),
        (rtp_only(), b"\x80\xc8" + bytes(10), True),
        (rtp_only(), b"\x80" * 11, False),
        (rtp_only(), STUN, False),
        (rtp_only(), DTLS, False),
        (rtp_only(), b"", False),
    ],
)
async def test_what_strangers_may_send(program: Program, datagram: bytes, passes: bool) -> None:
    port = Recorder()
    await port.open(("127.0.0.1", 0), program)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(datagram, port.local_address)
        await asyncio.sleep(0.05)
    assert [one for one, _ in port.came] == ([datagram] if passes else [])
    port.close()


async def test_a_port_in_use_is_refused() -> None:
    port = Recorder()
    await port.open(("127.0.0.1", 0), rtp_only())
    with pytest.raises(OSError, match="in use"):
        await Recorder().open(port.local_address, rtp_only())
    port.close()


async def test_a_flood_of_requests_leaves_the_loop_its_time(sources: list[socket.socket]) -> None:
    """Junk waits; what a known source sends is read as it comes."""
    port = Recorder()
    await port.open(("127.0.0.1", 0), stun_only(stun.BINDING_REQUEST))
    friend = sources[0].getsockname()
    port.expect([friend])
    for one in sources[1:]:
        for _ in range(500):
            one.sendto(STUN, port.local_address)
    sources[0].sendto(RTP, port.local_address)
    await asyncio.sleep(0.002)
    before = [source for _, source in port.came]
    assert friend in before
    assert len(before) <= 100
    port.close()


def test_a_mapped_address_is_the_ipv4_one() -> None:
    assert source_key("::ffff:192.0.2.1", 7) == source_key("192.0.2.1", 7)
    assert source_key("fe80::1%eth0", 7) == source_key("fe80::1", 7)
    assert source_key("192.0.2.1", 7) != source_key("192.0.2.1", 8)
