"""A whole node process in this one: what it says of itself, and how it starts and ends."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from relay.app import Node, Where, leaves
from relay.config import Settings, load_settings
from tests.fakes.node_service_grpc import FakeNodeService
from tests.fakes.trunk_node import HOST, REGION, free_udp_port, node_tls
from tests.fakes.waiting import eventually
from tests.relay.test_agent import snapshot


def write_settings(directory: Path, control_plane: int, **changes: str) -> Settings:
    tls = directory / "tls"
    tls.mkdir()
    for name in ("ca", "cert", "key"):
        (tls / f"{name}.pem").write_bytes(getattr(node_tls("a"), name))
    flags = {
        "node": "a",
        "region": REGION,
        "http": f"{HOST}:0",
        "media": f"{HOST}:0",
        "trunk-grpc": f"{HOST}:0",
        "trunk-udp": f"{HOST}:0",
        "control-plane": f"{HOST}:{control_plane}",
        "tls-dir": str(tls),
        "state-dir": str(directory / "state"),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return load_settings([word for flag, value in flags.items() for word in (f"--{flag}", value)])


@asynccontextmanager
async def serving(node: Node) -> AsyncIterator[Where]:
    stop = asyncio.Event()
    begun: asyncio.Future[Where] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.run(stop=stop, started=begun.set_result))
        try:
            yield await begun
        finally:
            stop.set()


async def test_a_node_starts_serves_and_stops(tmp_path: Path) -> None:
    async with FakeNodeService().running() as service:
        node = Node(await asyncio.to_thread(write_settings, tmp_path, service.port))
        async with serving(node) as where, aiohttp.ClientSession() as http:
            async with http.get(f"{where.http_url}/readyz") as answer:
                assert answer.status == 503  # nobody has said which keys sign tokens
            service.send(snapshot(1, "x"))
            await eventually(service.answered("x"))
            async with http.get(f"{where.http_url}/readyz") as answer:
                assert answer.status == 200
            [hello] = service.hellos
            assert (hello.http_url, hello.trunk_target) == (where.http_url, where.trunk_target)
            assert (hello.media.host, hello.media.port) == node.engine.address
            async with http.get(f"{where.http_url}/metrics") as answer:
                lines = (await answer.text()).splitlines()
        assert node.state.not_ready == "stopping"
    figures = {line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")}
    assert {
        "relay_participants",
        'relay_tracks{from="trunk"}',
        "relay_slots",
        'relay_rtp_packets_total{direction="out",hop="trunk"}',
        'relay_repaired_total{direction="in",hop="trunk"}',
        'relay_trunks{state="up"}',
        'relay_probes_total{door="stun",result="limited"}',
        'relay_dropped_datagrams_total{hop="client",reason="rejected"}',
        'relay_given_up_total{hop="trunk"}',
        "relay_loop_lag_seconds",
    } <= figures
    assert set(re.findall(r'(\w+)="', "\n".join(figures))) == {
        "direction", "door", "from", "hop", "reason", "result", "state",
    }  # fmt: skip


async def test_a_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    taken = free_udp_port()
    loop = asyncio.get_running_loop()
    holder, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=(HOST, taken)
    )
    udp = f"{HOST}:{taken}"
    node = Node(await asyncio.to_thread(write_settings, tmp_path, 1, trunk_udp=udp))
    with pytest.raises(ExceptionGroup) as caught:
        await node.run(stop=asyncio.Event(), started=lambda _: None)
    holder.close()
    [error] = leaves(caught.value)
    assert isinstance(error, OSError)
