"""The open port: whatever strangers send, calls go on, nothing is logged for it, and memory stays bounded."""

import asyncio
import socket
from random import Random

import aioice.stun
import pytest

from controlplane.cli.demo_media import MovingPicture
from relay.core import stun
from relay.engines.embedded.peer import Address, Peer
from relay.engines.embedded.port import MAX_ADDRESSES, Port
from tests.fakes.junk import mutated
from tests.fakes.waiting import eventually
from tests.relay.engine.peers import Call
from tests.relay.packets import packet
from tests.relay.rtc import RunningNode, client, counting, running_node

FLOOD = 20_000
BATCH = 100


def check_for(peer: Peer, *, nominate: bool = True, password: str = "") -> bytes:
    """Return a connectivity check as aioice sends it."""
    request = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{peer.ufrag}:theirs"
    if nominate:
        request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity((password or peer.pwd).encode())
    return bytes(request)


def test_a_session_has_a_bounded_number_of_addresses() -> None:
    port, peer = Port(), Call().peer
    port.add(peer)
    for number in range(100):
        port.datagram_received(check_for(peer), ("192.0.2.1", 1000 + number))
        port.datagram_received(check_for(peer), ("198.51.100.1", 7))  # the one that is in use
    assert len(port._by_address) == MAX_ADDRESSES
    assert ("198.51.100.1", 7) in port._by_address
    port.remove(peer)
    assert (port._by_address, port._by_ufrag, port._addresses) == ({}, {}, {})


def test_an_address_follows_whoever_checked_from_it_last() -> None:
    """A client that comes again behind its NAT may get the address of its session before."""
    port, before, after, address = Port(), Call().peer, Call().peer, ("192.0.2.1", 1)
    for peer in (before, after, before, after):
        port.add(peer) if peer.ufrag not in port._by_ufrag else None
        port.datagram_received(check_for(peer), address)
    port.remove(before)
    assert port._by_address == {address: after}


def test_a_stranger_gets_no_place() -> None:
    port, peer = Port(), Call().peer
    port.add(peer)
    for datagram in (
        check_for(peer, password="wrong"),
        check_for(Call().peer),
        b"\x16" * 40,
        packet(1),
    ):
        port.datagram_received(datagram, ("192.0.2.1", 1))
    assert port.counters.stray == 4
    assert port._by_address == {}


async def probe(port: Address, request: bytes) -> bytes | None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setblocking(False)
        await loop.sock_sendto(asker, request, port)
        try:
            async with asyncio.timeout(0.3):
                return await loop.sock_recv(asker, 1000)
        except TimeoutError:
            return None


async def test_a_probe_is_answered_with_no_more_than_it_brought() -> None:
    async with running_node() as node:
        padded = stun.binding_request(bytes(12), size=48)
        answer = await probe(node.engine.address, padded)
        assert answer is not None
        assert len(answer) <= len(padded)
        theirs = aioice.stun.parse_message(answer)
        assert theirs.attributes["XOR-MAPPED-ADDRESS"][0] == "127.0.0.1"
        bare = bytes(aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST))
        assert await probe(node.engine.address, bare) is None


class Recorder:
    """Keeps one datagram of each sort that a client sends, and where it came from."""

    def __init__(self, port: Port) -> None:
        self.samples: dict[str, bytes] = {}
        self.source: Address = ("", 0)
        self._pass_on = port.datagram_received
        port.datagram_received = self._record  # type: ignore[method-assign]

    def _record(self, data: bytes, addr: Address) -> None:
        sort = "stun" if data[0] < 4 else "dtls" if data[0] < 64 else "srtp"
        self.samples.setdefault(sort, data)
        self.source = addr
        self._pass_on(data, addr)


@pytest.mark.parametrize(
    "spoofed", [False, True], ids=["from strangers", "from the client's address"]
)
async def test_a_call_survives_a_flood_of_rubbish(
    spoofed: bool, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    async with running_node() as node, client(node, "ana") as ana, client(node, "bob") as bob:
        recorder = Recorder(node.engine.port)
        await ana.publish(MovingPicture(1))
        await bob.subscribe(video=1, audio=0)
        async with counting(bob):
            await eventually(lambda: None if bob.frames.get("0", 0) > 5 else "no frames", 15)
            assert set(recorder.samples) == {"stun", "dtls", "srtp"}
            sizes = table_sizes(node.engine.port)
            received = node.engine.port.counters.received
            capfd.readouterr()
            before = bob.frames["0"]
            await flood(node, recorder, spoofed)
            during = bob.frames["0"]
            await eventually(
                lambda: None if bob.frames["0"] > during + 10 else "frames stopped", 10
            )
        written = capfd.readouterr()
        assert during > before
        seen = node.engine.port.counters.received - received
        if spoofed:
            assert seen > FLOOD * 0.8
        else:  # the kernel dropped most of it for us
            assert seen < FLOOD / 2
            assert node.engine.port.unqueued > FLOOD / 2
        assert table_sizes(node.engine.port) == sizes
        assert len(node.engine.participants()) == 2
    assert (written.out, written.err) == ("", "")
    assert [record for record in caplog.records if record.name.startswith("relay")] == []
    assert raised == []


def table_sizes(port: Port) -> tuple[int, int, int]:
    addresses = sum(len(some) for some in port._addresses.values())
    return len(port._by_address), len(port._by_ufrag), addresses


async def flood(node: RunningNode, recorder: Recorder, spoofed: bool) -> None:
    dice = Random(5)  # noqa: S311 - a seed, so that a failure comes again
    samples = list(recorder.samples.values())
    source, port = recorder.source, node.engine.port
    strangers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(8)]
    try:
        for number in range(FLOOD):
            datagram = mutated(dice, dice.choice(samples))
            if spoofed:
                port.datagram_received(datagram, source)
            else:
                dice.choice(strangers).sendto(datagram, node.engine.address)
            if number % BATCH == 0:
                await asyncio.sleep(0.005)
    finally:
        for stranger in strangers:
            stranger.close()


def test_checks_of_unknown_ports_have_a_budget_and_those_of_a_call_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.engines.embedded.port.CHECKS_PER_S", 0.001)
    monkeypatch.setattr("relay.engines.embedded.port.CHECK_BURST", 10)
    port, peer = Port(), Call().peer
    port.add(peer)
    good, forged = check_for(peer), check_for(peer, password="wrong")
    port.datagram_received(good, ("192.0.2.1", 1))
    for number in range(100):
        port.datagram_received(forged, ("192.0.2.1", 1000 + number))
        port.datagram_received(good, ("192.0.2.1", 1))  # consent goes on
    assert (port.counters.stray, port.counters.checks_limited) == (9, 91)
    assert port._by_address == {("192.0.2.1", 1): peer}
    port.datagram_received(good, ("198.51.100.1", 1))  # another address has its own
    assert len(port._by_address) == 2
