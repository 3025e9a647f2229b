"""A whole node: it enrols at its start, serves, and renews while its session goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from relay.api.enrolment import EnrolmentError, Renewals
from relay.app import Node, enrolled
from relay.config import Settings, load_settings
from relay.transport.tls import TlsFiles
from tests.api.fake_relay import FakeRelay
from tests.enrolment.system import HOST, NODE, REGION, Issuing, now
from tests.fakes.waiting import eventually


def node_settings(plane: Issuing, directory: Path, token: str) -> Settings:
    (directory / "token").write_text(token)
    flags = {
        "node": NODE,
        "region": REGION,
        "http": f"{HOST}:0",
        "media": f"{HOST}:0",
        "trunk-grpc": f"{HOST}:0",
        "trunk-udp": f"{HOST}:0",
        "control-plane": plane.target,
        "enroll": f"{HOST}:{plane.enroll_port}",
        "join-token-file": str(directory / "token"),
        "tls-dir": str(directory / "node-tls"),
        "state-dir": str(directory / "state"),
    }
    return load_settings([word for flag, value in flags.items() for word in (f"--{flag}", value)])


@asynccontextmanager
async def serving(node: Node) -> AsyncIterator[str]:
    stop = asyncio.Event()
    begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            node.run(stop=stop, started=lambda where: begun.set_result(where.http_url))
        )
        try:
            yield await begun
        finally:
            stop.set()


async def state(plane: Issuing) -> str | None:
    answer = await plane.api.call("GET", f"/v1/nodes/{NODE}")
    found = answer.json.get("state")
    return None if found == "serving" else f"it is {found}"


async def test_a_node_enrols_serves_and_renews(plane: Issuing, tmp_path: Path) -> None:
    wanted = await asyncio.to_thread(node_settings, plane, tmp_path, await plane.token())
    assert wanted.tls is None
    settings = await enrolled(wanted)
    node = Node(settings)
    with capture_logs() as logs:
        async with serving(node) as url:
            await eventually(lambda: state(plane), timeout=10)
            before = node.tls.files
            assert await Renewals(node.tls, lambda: settings.control_planes).renew()

            def connected_again() -> str | None:
                count = sum(one["event"] == "node connected" for one in logs)
                return None if count == 2 else f"{count} sessions"

            await eventually(connected_again, timeout=10)
            await eventually(lambda: state(plane), timeout=10)
            assert node.tls.files.key != before.key
            async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as answer:
                lines = (await answer.text()).splitlines()
    left = [
        float(line.split()[1]) for line in lines if line.startswith("relay_certificate_expires")
    ]
    assert left == [pytest.approx(24 * 3600, abs=60)]
    # A second start needs no token.
    again = await asyncio.to_thread(node_settings, plane, tmp_path, "")
    assert again.tls == node.tls.files


async def test_a_node_that_is_refused_says_why(plane: Issuing, tmp_path: Path) -> None:
    token = await plane.token(node="another")
    wanted = await asyncio.to_thread(node_settings, plane, tmp_path, token)
    with pytest.raises(EnrolmentError, match="join-token-node: the token is for node another"):
        await enrolled(wanted)
    assert not await asyncio.to_thread((tmp_path / "node-tls").exists)


async def test_a_session_lasts_no_longer_than_its_certificate(plane: Issuing) -> None:
    bundle = plane.issuer.authority.issue(
        f"spiffe://thalweg/region/{REGION}/node/{NODE}",
        ip_addresses=[HOST],
        now=now(),
        lifetime=timedelta(seconds=3),
    )
    files = TlsFiles(bundle.ca, bundle.cert, bundle.key)
    relay = FakeRelay(NODE, REGION)
    async with asyncio.timeout(15), plane.api.channel(bundle) as channel:
        await relay.live(channel)
    assert relay.ended is not None
    assert relay.ended[1].startswith("certificate-expired: ")
    assert files.names().ends_at - now().timestamp() < 0
