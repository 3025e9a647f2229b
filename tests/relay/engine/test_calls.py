"""Real clients on one node: who gets what, and what happens when people come and go."""

import asyncio
from collections.abc import AsyncIterator

import aiortc.rtcdtlstransport as aiortc_dtls
import pytest
from aiortc import RTCPeerConnection
from aiortc.rtcdtlstransport import RTCCertificate, SRTPProtectionProfile
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from controlplane.cli.demo_media import MovingPicture, Tone
from relay.core import rtcp
from relay.core.keyframes import PLI_INTERVAL_S
from tests.fakes.waiting import eventually
from tests.relay.rtc import Client, RunningNode, Wire, client, counting, running_node

PATIENCE_S = 15.0
"""For encoders, decoders and handshakes on a machine that does other things too."""


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node() as running:
        yield running


async def decodes(one: Client, **at_least: int) -> None:
    """Wait until a client has decoded so many more frames, where m0 is the slot with mid 0."""
    goals = {mid[1:]: one.frames.get(mid[1:], 0) + count for mid, count in at_least.items()}

    def check() -> str | None:
        behind = {
            mid: one.frames.get(mid, 0)
            for mid, goal in goals.items()
            if one.frames.get(mid, 0) < goal
        }
        return f"{one.name} decoded {one.frames}, wanted {goals}" if behind else None

    await eventually(check, PATIENCE_S)


async def shows(one: Client, **expected: str | None) -> None:
    """Wait until the slots m0, m1… of a client show these participants."""
    wanted = {mid[1:]: who for mid, who in expected.items()}

    async def check() -> str | None:
        slots = await one.slots()
        return None if slots == wanted else f"{one.name} is shown {slots}, not {wanted}"

    await eventually(check, PATIENCE_S)


async def test_one_publishes_and_another_sees_and_hears(node: RunningNode) -> None:
    async with client(node, "ana") as ana, client(node, "bob") as bob:
        await ana.publish()
        await bob.subscribe()
        async with counting(bob):
            await decodes(bob, m0=10, m1=20)
        by_name = {status.participant: status for status in node.engine.participants()}
        assert {track.info.kind for track in by_name["ana"].tracks} == {"audio", "video"}
        assert (by_name["ana"].slots, by_name["bob"].slots) == (0, 2)
        assert by_name["bob"].rtt_ms is not None


async def test_each_of_two_sees_the_other_and_nobody_himself(node: RunningNode) -> None:
    async with client(node, "ana") as ana, client(node, "bob") as bob:
        for one in (ana, bob):
            await one.publish()
            await one.subscribe(video=2, audio=1)
        async with counting(ana, bob):
            await decodes(ana, m0=5, m2=5)
            await decodes(bob, m0=5, m2=5)
        await shows(ana, m0="bob", m1=None, m2="bob")
        await shows(bob, m0="ana", m1=None, m2="ana")


async def test_slots_tell_who_is_in_them_and_a_pin_keeps_others_out(node: RunningNode) -> None:
    async with (
        client(node, "ana") as ana,
        client(node, "bob") as bob,
        client(node, "eve") as eve,
        client(node, "pin") as pin,
    ):
        await ana.publish(MovingPicture(1))
        await eventually(lambda: None if node.rooms.tracks("r") else "ana does not publish yet")
        await bob.publish(MovingPicture(2))
        await eve.subscribe(video=2, audio=0)
        await pin.subscribe(video=2, audio=0, query="?participant=bob")
        await shows(eve, m0="ana", m1="bob")
        await shows(pin, m0="bob", m1=None)
        async with counting(eve, pin):
            await decodes(eve, m0=5, m1=5)
            await decodes(pin, m0=5)
        assert "1" not in pin.frames


async def test_a_newcomer_takes_the_place_of_one_who_left_without_renegotiation(
    node: RunningNode,
) -> None:
    async with client(node, "ana") as ana, client(node, "bob") as bob, client(node, "eve") as eve:
        await ana.publish()
        await eve.subscribe()
        wire = Wire(eve.down)
        async with counting(eve):
            await decodes(eve, m0=5, m1=5)
            await shows(eve, m0="ana", m1="ana")
            await ana.end(ana.sessions[0])
            await shows(eve, m0=None, m1=None)
            assert [status.participant for status in node.engine.participants()] == ["eve"]
            await bob.publish()
            await shows(eve, m0="bob", m1="bob")
            await decodes(eve, m0=10, m1=10)
        numbers = wire.sequences
        assert numbers == set(range(min(numbers), max(numbers) + 1))  # one stream, without a seam


async def test_who_publishes_again_replaces_himself(node: RunningNode) -> None:
    async with client(node, "ana") as ana, client(node, "ana") as again, client(node, "eve") as eve:
        await ana.publish(MovingPicture(1))
        await eve.subscribe(video=2, audio=0)
        async with counting(eve):
            await decodes(eve, m0=3)
            await again.publish(MovingPicture(2))
            await eventually(lambda: None if ana.up.connectionState == "closed" else "still open")
            await decodes(eve, m0=5)
        await shows(eve, m0="ana", m1=None)
        assert len(node.rooms.tracks("r")) == 1


async def test_a_late_viewer_gets_a_key_frame_at_once_and_many_cost_one(node: RunningNode) -> None:
    async with client(node, "ana") as ana, client(node, "bob") as bob, client(node, "eve") as eve:
        await ana.publish(MovingPicture(1))
        wire = Wire(ana.up)
        await bob.subscribe(video=1, audio=0)
        async with counting(bob):
            await decodes(bob, m0=20)
        before = wire.keyframe_requests
        loop = asyncio.get_running_loop()
        async with client(node, "dan") as dan:
            await asyncio.gather(*(one.subscribe(video=1, audio=0) for one in (dan, eve)))
            began = loop.time()
            async with counting(dan, eve):
                await decodes(dan, m0=1)
                await decodes(eve, m0=1)
                elapsed = loop.time() - began
        assert elapsed < 3.0
        assert 1 <= wire.keyframe_requests - before <= 1 + elapsed / PLI_INTERVAL_S


async def asked_in_vain(node: RunningNode) -> int:
    """Lose the first two requests for a key frame; return how many there were before the picture came."""
    async with client(node, "ana") as ana, client(node, "bob") as bob:
        await ana.publish(MovingPicture(1))
        await eventually(lambda: None if node.rooms.tracks("r") else "ana does not publish yet")
        transport = ana.up.getTransceivers()[0].receiver.transport
        pass_on = transport._handle_rtcp_data
        lost: list[bytes] = []

        async def lose_two(data: bytes) -> None:
            asks = any(isinstance(part, rtcp.KeyframeRequest) for part in rtcp.parse(data))
            if asks and len(lost) < 2:
                lost.append(data)
            else:
                await pass_on(data)

        transport._handle_rtcp_data = lose_two  # type: ignore[method-assign]
        await asyncio.sleep(1)  # the key frame that the encoder begins with is over
        await bob.subscribe(video=1, audio=0)
        async with counting(bob):
            await decodes(bob, m0=3)
        return len(lost)


async def test_a_key_frame_is_asked_for_until_it_comes(node: RunningNode) -> None:
    asked: list[int] = []
    # Now and then the encoder makes a key frame by itself, just when it was asked in vain.
    while 2 not in asked and len(asked) < 3:
        asked.append(await asked_in_vain(node))
        await eventually(lambda: "ana is still there" if node.rooms.tracks("r") else None)
    assert 2 in asked


class RsaCertificate(RTCCertificate):
    """As GStreamer's: an RSA key, and ciphers that can use it."""

    @classmethod
    def generateCertificate(cls) -> "RsaCertificate":  # noqa: N802 - aiortc's name
        key = rsa.generate_private_key(65_537, 2048)
        return cls(key, aiortc_dtls.generate_certificate(key))  # type: ignore[arg-type]

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")
        return context


@pytest.mark.parametrize("setup", ["actpass", "active", "passive"])
async def test_a_peer_with_an_rsa_certificate(node: RunningNode, setup: str) -> None:
    """As DTLS client and, where its offer says passive, as DTLS server."""

    def with_rsa() -> RTCPeerConnection:
        peer = RTCPeerConnection()
        peer._RTCPeerConnection__certificates = [RsaCertificate.generateCertificate()]  # type: ignore[attr-defined]
        return peer

    async with client(node, "ana") as ana, client(node, "bob") as bob:
        ana.up, bob.down = with_rsa(), with_rsa()
        ana.edit = bob.edit = lambda sdp: sdp.replace("a=setup:actpass", f"a=setup:{setup}")
        await ana.publish(Tone(1))
        await bob.subscribe(video=0, audio=1)
        async with counting(bob):
            await decodes(bob, m0=10)
        role = bob.down.getTransceivers()[0].receiver.transport._role
        assert role == ("server" if setup == "passive" else "client")


async def test_an_impostor_with_another_certificate_gets_nowhere(node: RunningNode) -> None:
    async with client(node, "ana") as ana:
        ana.edit = lambda sdp: sdp.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 00:", 1)
        await ana.publish(Tone(1))
        await eventually(lambda: "still there" if node.engine.participants() else None, PATIENCE_S)
        assert node.rooms.tracks("r") == ()


async def test_the_slot_stream_ends_with_the_session(node: RunningNode) -> None:
    async with client(node, "eve") as eve:
        await eve.subscribe()
        async with eve.http.get(eve.slots_url, headers=eve._authorization) as stream:
            assert stream.headers["Content-Type"] == "text/event-stream"
            await eve.end(eve.sessions[0])
            async with asyncio.timeout(5):
                assert (await stream.read()).startswith(b"event: slots\ndata: ")
        assert node.engine.participants() == []
