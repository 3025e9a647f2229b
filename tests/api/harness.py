"""A real control plane on loopback for tests of its doors: real HTTP, real gRPC with real mTLS."""

import asyncio
import gc
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from controlplane.adapters.ca import Bundle, CertificateAuthority
from controlplane.adapters.signing_keys import SigningKeys
from controlplane.api.callers import Callers, Fixed
from controlplane.api.keys import ApiKeys
from controlplane.app import Ports, serve
from controlplane.config import Address, Settings

KEY = "a-key-for-tests"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
DAY = timedelta(days=1)
DEMO = (Path(__file__).parents[2] / "regions" / "demo.yaml").read_text("utf-8")

# The certificates are made once: a key costs more than most tests.
AUTHORITY = CertificateAuthority.create("tests", now=datetime.now(UTC), lifetime=DAY)  # noqa: TID251
STRANGER = CertificateAuthority.create("stranger", now=datetime.now(UTC), lifetime=DAY)  # noqa: TID251


def issue(spiffe_id: str, authority: CertificateAuthority = AUTHORITY) -> Bundle:
    return authority.issue(
        spiffe_id,
        dns_names=["localhost"],
        ip_addresses=["127.0.0.1"],
        now=datetime.now(UTC),  # noqa: TID251
        lifetime=DAY,
    )


SERVER = issue("spiffe://thalweg/controlplane/tests")
CLIENT = issue("spiffe://thalweg/client/tests")


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Check that this is a problem document with a code, and return it."""
        assert (self.status, self.headers["Content-Type"]) == (
            status,
            "application/problem+json; charset=utf-8",
        ), self.text
        found: dict[str, Any] = self.json
        assert (found["code"], found["status"]) == (code, status)
        assert found["type"] == f"https://thalweg.dev/problems/{code}"
        assert found["title"]
        assert found["detail"]
        return found


class Api:
    """A running control plane."""

    def __init__(self, ports: Ports, session: aiohttp.ClientSession) -> None:
        self.ports = ports
        self.url = f"http://127.0.0.1:{ports.http}"
        self.session = session

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        data: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = KEY,
    ) -> Answer:
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if body is not None:
            data = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(
            method, self.url + path, data=data, headers=sent, skip_auto_headers=["Content-Type"]
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def join(self, room: str, participant: str, **body: Any) -> Answer:
        body.setdefault("session", f"session-of-{participant}")
        return await self.call("PUT", f"/v1/rooms/{room}/participants/{participant}", body)

    def channel(self, bundle: Bundle = CLIENT) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(bundle.ca, bundle.key, bundle.cert)
        return grpc.aio.secure_channel(f"127.0.0.1:{self.ports.grpc}", credentials)


def settings(tls_dir: Path, **changes: Any) -> Settings:
    """Return settings on free ports."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    plain = Settings(
        topology_text=DEMO,
        http=Address("127.0.0.1", 0),
        grpc=Address("127.0.0.1", 0),
        tls_dir=tls_dir,
        callers=Callers(Fixed(ApiKeys.parse(f"tests:{digest}"))),
        signer=SigningKeys.generate(),
        turn=None,
        geoip=(),
        trusted_proxies=(),
        declared_rtts=True,
        open_metrics=False,
    )
    return replace(plain, **changes)


@asynccontextmanager
async def running(wanted: Settings) -> AsyncIterator[Api]:
    """Run a control plane for the time of the block."""
    grpc.aio.init_grpc_aio()  # held here, so that its shutdown, which waits for a thread, is not the server's
    stop = asyncio.Event()
    ports: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(wanted, stop=stop, started=ports.set_result))
        async with aiohttp.ClientSession() as session:
            try:
                yield Api(await asyncio.wait_for(ports, 10), session)
            finally:
                stop.set()
    # Tracebacks of cancelled sessions hold the server in cycles. Freed in some later test's loop, it would block there.
    await asyncio.to_thread(gc.collect)
    grpc.aio.shutdown_grpc_aio()
