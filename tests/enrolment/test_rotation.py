"""Certificates and authorities are replaced while sessions and trunks go on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from thalweg.v1 import enrollment_pb2, enrollment_pb2_grpc

from controlplane.adapters import authority
from controlplane.adapters.ca import pin_of
from controlplane.errors import ConflictError
from relay.api.enrolment import Renewals, _make_request
from relay.transport.authority import _chain
from relay.transport.clock import wall
from relay.transport.tls import LiveTls, TlsFiles
from tests.api.harness import CLIENT, SERVER, running, settings
from tests.enrolment.system import (
    DAY,
    REGION,
    Issuing,
    control_plane_certificate,
    health,
    now,
)
from tests.fakes.trunk_node import Camera, TrunkNode, Viewer, link, offered
from tests.fakes.waiting import eventually


def renewals(plane: Issuing, live: LiveTls) -> Renewals:
    return Renewals(live, lambda: ["127.0.0.1:1", plane.target])


async def test_a_node_renews_for_itself_and_for_nobody_else(plane: Issuing, tmp_path: Path) -> None:
    live = await plane.live_node(tmp_path / "node")
    before = live.files
    async with open_call(plane, before):
        assert await renewals(plane, live).renew()
        assert live.files.key != before.key
        assert live.names.identity == before.identity()
        assert live.names.ip_addresses == before.names().ip_addresses
        assert await asyncio.to_thread(TlsFiles.load, tmp_path / "node") == live.files
        assert await health(plane.target, live.channel_credentials()) == ""


async def test_a_node_whose_clock_is_a_day_ahead_does_not_ask_all_the_time(
    plane: Issuing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await plane.live_node(tmp_path / "node")
    monkeypatch.setattr("relay.api.enrolment.wall", lambda: wall() + 24 * 3600)
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await renewals(plane, live).run()
    assert live.version == 1


async def test_a_request_for_more_gets_what_the_certificate_says(
    plane: Issuing, tmp_path: Path
) -> None:
    live = await plane.live_node(tmp_path / "node")
    async with grpc.aio.secure_channel(plane.target, live.channel_credentials()) as channel:
        stub = enrollment_pb2_grpc.CertificateServiceStub(channel)
        csr = _make_request(["control.example.net"]).csr
        response = await stub.Renew(enrollment_pb2.RenewRequest(csr_pem=csr))
    got = TlsFiles(b"", response.certificate.chain_pem.encode(), b"").names()
    assert (got.dns_names, got.ip_addresses) == ((), ("127.0.0.1",))
    assert got.identity == live.names.identity


async def test_a_control_plane_without_an_authority_says_so(plane: Issuing, tmp_path: Path) -> None:
    live = await plane.live_node(tmp_path / "node")
    async with running(settings(plane.tls_dir)) as other:
        (await other.call("POST", "/v1/node-tokens", {"region": REGION})).problem(
            503, "no-authority"
        )
        asked = Renewals(live, lambda: [f"127.0.0.1:{other.ports.grpc}"])
        assert not await asked.renew()


async def test_another_authority_takes_over_under_running_sessions_and_trunks(
    plane: Issuing, tmp_path: Path
) -> None:
    one, other = [await plane.live_node(tmp_path / name, name) for name in ("a", "b")]
    await plane.live_node(tmp_path / "late", "late")
    early_token = await plane.token()
    async with (
        open_call(plane, one.files),
        TrunkNode("a", tls=one).running() as a,
        TrunkNode("b", tls=other).running() as b,
    ):
        camera, viewer = Camera(a), Viewer()
        link(a, b, "r")
        await eventually(lambda: offered(b, "ana-video"))
        b.remote("ana-video").attach(viewer)
        session = a.manager.trunks["b"].session

        await plane.rotate()
        # Only one node has a certificate by the new authority, and nobody has heard of that one yet.
        assert await renewals(plane, one).renew()
        assert pins(one.files.ca) == [plane.issuer.pin(), *pins(other.files.ca)]
        assert await health(a.target, other.channel_credentials()) == UNIMPLEMENTED
        assert await health(b.target, one.channel_credentials()) == UNIMPLEMENTED
        assert await health(plane.target, one.channel_credentials()) == ""
        await plane.enrol(early_token, "c")  # a token of before names the authority of before
        await plane.enrol(await plane.token(), "d")

        # The control plane's own certificate is issued anew, and the other node renews.
        authority_now = plane.issuer.authority
        await asyncio.to_thread(control_plane_certificate(authority_now).write, plane.tls_dir)
        await eventually(lambda: served_by(plane, authority_now.certificate), timeout=5)
        assert await renewals(plane, other).renew()

        # And the old one is gone: whoever slept through all that stays outside.
        await asyncio.to_thread(authority.save, plane.ca_dir, authority_now.alone())
        assert await asyncio.to_thread(plane.issuer.file.poll)
        await asyncio.to_thread(
            control_plane_certificate(plane.issuer.authority).write, plane.tls_dir
        )
        late = await asyncio.to_thread(TlsFiles.load, tmp_path / "late")
        await eventually(lambda: refused(plane, late), timeout=5)
        assert await renewals(plane, one).renew()
        assert pins(one.files.ca) == [plane.issuer.pin()]
        assert await health(plane.target, one.channel_credentials()) == ""

        # The trunk never noticed.
        await eventually(lambda: None if camera.track.wanted else "nobody takes the track")
        camera.send(keyframe=True)
        await eventually(lambda: None if viewer.packets else "nothing flows")
        assert a.manager.trunks["b"].session is session


UNIMPLEMENTED = "UNIMPLEMENTED: Method not found!"
"""A node's trunk port has no health service: the handshake worked."""


def test_the_old_authority_ends_when_no_certificate_by_it_is_left(tmp_path: Path) -> None:
    authority.create(tmp_path, now=now())
    with pytest.raises(ConflictError, match="only one"):
        authority.finish(tmp_path, now=now() + 2 * DAY)
    authority.rotate(tmp_path, now=now())
    with pytest.raises(ConflictError, match="taking over already"):
        authority.rotate(tmp_path, now=now())
    with pytest.raises(ConflictError, match="until"):
        authority.finish(tmp_path, now=now() + timedelta(hours=23))
    after = authority.finish(tmp_path, now=now() + timedelta(hours=25))
    assert authority.load(tmp_path).trusted() == after.trusted()


async def test_files_of_ones_own_pki_are_replaced_under_a_running_control_plane(
    tmp_path: Path,
) -> None:
    """Here the files are those of tests/api: made by an authority that the process does not have."""
    await asyncio.to_thread(SERVER.write, tmp_path)
    async with running(settings(tmp_path)) as api, api.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest())
        made = await asyncio.to_thread(authority.create, tmp_path / "ca", now=now())
        await asyncio.to_thread(control_plane_certificate(made).write, tmp_path)
        newcomer = control_plane_certificate(made)
        credentials = grpc.ssl_channel_credentials(newcomer.ca, newcomer.key, newcomer.cert)

        async def replaced() -> str | None:
            return await health(f"127.0.0.1:{api.ports.grpc}", credentials) or None

        await eventually(replaced, timeout=10)
        await stub.Check(health_pb2.HealthCheckRequest())  # who is here stays
        old = grpc.ssl_channel_credentials(CLIENT.ca, CLIENT.key, CLIENT.cert)
        assert (await health(f"127.0.0.1:{api.ports.grpc}", old)).startswith("UNAVAILABLE")


# -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_call(plane: Issuing, files: TlsFiles) -> AsyncIterator[None]:
    """Hold a stream to the control plane for the time of the block; it has to be there at the end."""
    async with grpc.aio.secure_channel(plane.target, files.channel_credentials()) as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        yield
        assert not call.done()
        call.cancel()


def pins(pem: bytes) -> list[str]:
    return [pin_of(one) for one in x509.load_pem_x509_certificates(pem)]


async def served_by(plane: Issuing, issuer: x509.Certificate) -> str | None:
    """Say what is wrong until the control plane shows a certificate by this authority."""
    chain = await asyncio.to_thread(_chain, "127.0.0.1", plane.api.ports.grpc)
    return None if chain[0].issuer == issuer.subject else f"it is by {chain[0].issuer}"


async def refused(plane: Issuing, files: TlsFiles) -> str | None:
    """Say what is wrong until the control plane refuses this certificate."""
    outcome = await health(plane.target, files.channel_credentials())
    return None if outcome.startswith("UNAVAILABLE") else f"it says {outcome!r}"
