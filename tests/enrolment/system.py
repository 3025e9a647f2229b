"""A control plane that issues certificates, and nodes that get theirs from it: all real, on loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controlplane.adapters import authority
from controlplane.adapters.authority import Issuer
from controlplane.adapters.ca import Bundle, CertificateAuthority
from controlplane.config import Address
from relay.api.enrolment import Enrolment, enrol
from relay.core.enrolment import parse_join_token
from relay.transport.clock import wall
from relay.transport.tls import LiveTls, NodeIdentity, TlsFiles
from tests.api.harness import Api, running, settings

REGION, NODE = "eu-frankfurt", "fra1"
HOST = "127.0.0.1"
IDENTITY = NodeIdentity(REGION, NODE)
DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.fromtimestamp(wall(), UTC)


@dataclass
class Issuing:
    """A running control plane, and the directories of its authority and its own certificate."""

    api: Api
    ca_dir: Path
    tls_dir: Path
    issuer: Issuer

    @property
    def enroll_port(self) -> int:
        assert self.api.ports.enroll is not None
        return self.api.ports.enroll

    @property
    def target(self) -> str:
        return f"{HOST}:{self.api.ports.grpc}"

    async def token(self, **body: Any) -> str:
        answer = await self.api.call("POST", "/v1/node-tokens", {"region": REGION, **body})
        assert answer.status == 201, answer.text
        token: str = answer.json["token"]
        return token

    async def enrol(self, token: str, node: str = NODE, region: str = REGION) -> TlsFiles:
        """Enrol as a node does. Raises EnrolmentError."""
        identity = NodeIdentity(region, node)
        return await enrol(
            Enrolment(HOST, self.enroll_port, parse_join_token(token), identity, (HOST,))
        )

    async def live_node(self, directory: Path, node: str = NODE) -> LiveTls:
        """Enrol and keep the certificate in a directory."""
        files = await self.enrol(await self.token(), node)
        await asyncio.to_thread(files.save, directory)
        return LiveTls(directory, NodeIdentity(REGION, node), files)

    async def rotate(self) -> CertificateAuthority:
        """Let another authority take over, as `thalweg ca rotate` does, and wait until the process has seen it."""
        made = await asyncio.to_thread(authority.rotate, self.ca_dir, now=now())
        assert await asyncio.to_thread(self.issuer.file.poll)
        return made


def control_plane_certificate(issued_by: CertificateAuthority) -> Bundle:
    return issued_by.issue(
        "spiffe://thalweg/controlplane/one",
        dns_names=["localhost"],
        ip_addresses=[HOST],
        now=now(),
        lifetime=timedelta(days=90),
    )


def prepare(directory: Path) -> tuple[Path, Path]:
    """Make an authority and a control plane's certificate by it."""
    ca_dir, tls_dir = directory / "ca", directory / "tls"
    made = authority.create(ca_dir, now=now())
    control_plane_certificate(made).write(tls_dir)
    return ca_dir, tls_dir


@asynccontextmanager
async def issuing(directory: Path, enroll_port: int = 0) -> AsyncIterator[Issuing]:
    """Run a control plane with an authority of its own."""
    ca_dir, tls_dir = await asyncio.to_thread(prepare, directory)
    issuer = await asyncio.to_thread(Issuer, ca_dir)
    wanted = settings(tls_dir, issuer=issuer, enroll=Address(HOST, enroll_port))
    async with running(wanted) as api:
        yield Issuing(api, ca_dir, tls_dir, issuer)


def server_context(authority_: CertificateAuthority, directory: Path) -> ssl.SSLContext:
    """Return a TLS server's context by any authority, that authority in its chain."""
    bundle = control_plane_certificate(authority_)
    bundle.write(directory)
    (directory / "chain.pem").write_bytes(bundle.cert + bundle.ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(directory / "chain.pem", directory / "key.pem")
    return context


async def health(target: str, credentials: grpc.ChannelCredentials) -> str:
    """Ask for health on a fresh connection; return "" or why that failed."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=5
            )
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
    return ""
