"""The round trip to clients: known within seconds in both roles, and not what a client says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioice.stun
import pytest

from relay.core import stun
from relay.core.rtcp import ReportBlock
from relay.engines.base import ParticipantStatus
from relay.engines.embedded.port import PROBE_BURST, Port
from relay.transport.clock import monotonic, ntp
from tests.fakes.lossy_udp import LossyUdp
from tests.fakes.trunk_node import free_udp_port
from tests.fakes.waiting import eventually
from tests.relay.engine.peers import HERE, Call
from tests.relay.engine.test_port import check_for
from tests.relay.rtc import LOOPBACK, RunningNode, client, running_node

ONE_WAY_S = 0.030
OVERHEAD_MS = 25.0
"""What two event loops of a busy machine may add."""
WITHIN_S = 10.0


@asynccontextmanager
async def far_node(loss: float = 0.0) -> AsyncIterator[tuple[RunningNode, LossyUdp]]:
    port = free_udp_port()
    async with (
        LossyUdp((LOOPBACK, port), loss=loss, delay_s=ONE_WAY_S, seed=3) as path,
        running_node(media_port=port, advertise=path.address) as node,
    ):
        yield node, path


def status(node: RunningNode, name: str) -> ParticipantStatus | None:
    return next((one for one in node.engine.participants() if one.participant == name), None)


def why_not_measured(node: RunningNode, *names: str) -> str | None:
    """Say whose round trip is not what the path has."""
    figures = {name: one.rtt_ms if (one := status(node, name)) else None for name in names}
    low = 2000 * ONE_WAY_S
    off = {
        name: rtt
        for name, rtt in figures.items()
        if rtt is None or not low <= rtt <= low + OVERHEAD_MS
    }
    return f"round trips {off}" if off else None


async def test_who_only_publishes_and_who_only_looks_are_measured_before_any_report() -> None:
    async with far_node() as (node, _), client(node, "ana") as ana, client(node, "bob") as bob:
        await ana.publish()
        await bob.subscribe()
        await eventually(lambda: why_not_measured(node, "ana", "bob"), WITHIN_S)


async def test_a_viewer_of_an_empty_room_is_measured_on_a_path_that_loses_much() -> None:
    async with far_node() as (node, path), client(node, "bob") as bob:
        await bob.subscribe(video=1, audio=0)
        await eventually(lambda: None if status(node, "bob") else "bob is not here")
        path.loss = 0.2
        await eventually(lambda: why_not_measured(node, "bob"), WITHIN_S)


async def test_what_a_viewer_reports_counts_for_nothing_when_it_answers() -> None:
    async with far_node() as (node, _), client(node, "bob") as bob:
        await bob.subscribe(video=1, audio=0)
        await eventually(lambda: why_not_measured(node, "bob"), WITHIN_S)
        [session] = node.engine._sessions.values()
        nearer = int((ntp() - 0.001) * 65536) & 0xFFFFFFFF
        session.role._learn_rtt((ReportBlock(1, 0, 0, 0, 0, nearer, 0),), monotonic())  # type: ignore[union-attr]
        assert why_not_measured(node, "bob") is None


def answer_to(check: bytes, password: str) -> stun.Message:
    theirs = aioice.stun.parse_message(check)
    response = aioice.stun.Message(
        aioice.stun.Method.BINDING, aioice.stun.Class.RESPONSE, theirs.transaction_id
    )
    response.attributes["XOR-MAPPED-ADDRESS"] = HERE
    response.add_message_integrity(password.encode())
    message = stun.parse(bytes(response))
    assert message is not None
    return message


def test_a_client_is_asked_once_connected_and_only_its_own_answer_counts() -> None:
    call = Call()
    call.peer.tick(0.0)
    assert call.sent == []
    call.connect()
    call.sent.clear()
    call.peer.tick(1.0)
    [(check, address)] = call.sent
    assert address == HERE
    theirs = aioice.stun.parse_message(check)
    assert theirs.check_message_integrity(b"pwd")  # of the offer
    assert theirs.attributes["USERNAME"] == f"ufrag:{call.peer.ufrag}"
    assert not call.peer.answered(answer_to(check, "guessed"), 1.01)
    assert call.peer.answered(answer_to(check, "pwd"), 1.05)
    assert call.peer.rtt_s(1.1) == pytest.approx(0.05)
    assert not call.peer.answered(answer_to(check, "pwd"), 1.06)
    call.peer.tick(1.1)
    assert len(call.sent) == 1


def test_a_client_that_comes_from_another_address_is_measured_anew() -> None:
    call = Call()
    call.connect()
    call.sent.clear()
    call.peer.tick(1.0)
    call.peer.answered(answer_to(call.sent[0][0], "pwd"), 1.05)
    call.peer.checked(HERE, nominated=True, now=1.1)
    assert call.peer.rtt_s(1.1) is not None
    call.peer.checked(("192.0.2.9", 9), nominated=True, now=1.2)
    assert call.peer.rtt_s(1.2) is None
    call.peer.tick(1.2)
    assert call.sent[-1][1] == ("192.0.2.9", 9)


def test_an_answer_from_elsewhere_is_stray() -> None:
    port, call = Port(), Call()
    port.add(call.peer)
    call.connect()
    call.sent.clear()
    call.peer.tick(1.0)
    answer = answer_to(call.sent[0][0], "pwd").datagram
    port.datagram_received(answer, ("192.0.2.99", 1))
    assert port.counters.stray == 1
    assert call.peer.rtt_s(1.1) is None


def test_strangers_have_so_many_probes_for_each_address_and_checks_are_no_probes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.engines.embedded.port.PROBES_PER_S", 0.001)
    port, peer = Port(), Call().peer
    port.add(peer)
    probe, check = stun.binding_request(bytes(12), size=48), check_for(peer)
    for number in range(PROBE_BURST + 500):
        port.datagram_received(probe, ("192.0.2.1", 1024 + number))  # its ports are one address
        port.datagram_received(check, ("192.0.2.1", 7))
    port.datagram_received(probe, ("192.0.2.2", 1))
    counters = port.counters
    assert (counters.probes_answered, counters.probes_limited) == (PROBE_BURST + 1, 500)
    assert counters.stray == 0
    assert port._by_address == {("192.0.2.1", 7): peer}


async def test_a_session_in_the_hands_of_a_flood_of_probes_goes_on() -> None:
    async with running_node() as node, client(node, "bob") as bob:
        await bob.subscribe(video=1, audio=0)
        await eventually(lambda: None if status(node, "bob") else "bob is not here")
        request = stun.binding_request(bytes(12), size=48)
        for number in range(PROBE_BURST * 2):
            node.engine.port.datagram_received(request, (LOOPBACK, 9))
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert node.engine.port.counters.probes_limited > 0
        await eventually(
            lambda: None if (one := status(node, "bob")) and one.rtt_ms else "not measured",
            WITHIN_S,
        )
