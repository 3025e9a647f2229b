"""Everything that both processes log of a call in debug mode: no credential, no SDP, no whole address."""

import asyncio
import io
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import structlog

from controlplane.adapters.turn_secrets import TurnSecretFile
from guard.logs import configure_logs
from relay.core import stun
from tests.api.fake_relay import relays
from tests.api.harness import KEY, SERVER, running, settings
from tests.fakes.relay_process import relay_process
from tests.fakes.waiting import eventually
from tests.relay.rtc import RunningNode, client, counting

PEOPLE = ("203.0.113.77", "2001:db8:1:2::77")
TOPOLOGY = """
version: 1
regions:
  eu-frankfurt:
    location: {lat: 50.1, lon: 8.7}
    turn: {servers: [{host: turn.example.net}], transports: [udp, tls]}
"""
MASTER = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What this process logs, as a control plane in debug mode does."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(stream, level="debug")
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def assert_silent(log: str, secrets: set[str]) -> None:
    assert len(log.splitlines()) > 3, "nothing was logged, so nothing was tried"
    told = {secret for secret in secrets if secret and secret in log}
    assert told == set()
    assert "v=0" not in log
    assert "ice-pwd" not in log


@pytest.mark.e2e
async def test_of_the_control_plane(tmp_path: Path, lines: io.StringIO) -> None:
    turn = await asyncio.to_thread(_prepare, tmp_path)
    secrets = {KEY, MASTER, *PEOPLE}
    wanted = settings(tmp_path, topology_text=TOPOLOGY, turn=turn)
    async with running(wanted) as api, relays(api, "eu-frankfurt"):
        for number, address in enumerate(PEOPLE):
            answer = (await api.join("r", f"p{number}", client_ip=address)).json
            secrets.add(answer["token"])
            for server in answer["ice_servers"]:
                secrets |= {server.get("username") or "", server.get("credential") or ""}
            forwarded = {"X-Forwarded-For": address, "Authorization": "Bearer tw_0000_wrong"}
            await api.call("PUT", "/v1/rooms/r/participants/x", {}, headers=forwarded, key=None)
            await api.call("GET", f"/v1/rooms/{answer['token']}")
            await api.call("POST", "/v1/probe-plans", {"client_ip": address})
        await api.call("DELETE", "/v1/rooms/r/participants/p0")
    assert len(secrets) > 6, "no TURN credential was handed out, so none could be told"
    assert_silent(lines.getvalue(), secrets)


@pytest.mark.e2e
async def test_of_a_node(tmp_path: Path) -> None:
    async with relay_process(tmp_path, "--log-level", "debug") as relay:
        node = cast("RunningNode", relay)  # as far as a client looks
        secrets = set()
        async with client(node, "ana") as ana, client(node, "bob") as bob:
            await ana.publish()
            await bob.subscribe()
            async with counting(bob):
                await eventually(lambda: None if bob.frames.get("0", 0) > 5 else "no frames", 20)
            for one in (ana.up, bob.down):
                for half in (one.localDescription, one.remoteDescription):
                    secrets |= _secrets_of(half.sdp)
            secrets |= {url.rpartition("/")[2] for url in (*ana.sessions, *bob.sessions)}
            token = relay.signer.token("eve", node="another")
            secrets.add(token)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
            async with ana.http.post(f"{relay.url}/whip/r/eve", data="v=0", headers=headers):
                pass
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for port in relay.udp_ports():
                    stranger.sendto(stun.binding_request(bytes(12), size=48), ("127.0.0.1", port))
            await ana.end(ana.sessions[0])
        log = await asyncio.to_thread(relay.log.read_text)
    assert any(json.loads(line)["level"] == "debug" for line in log.splitlines())
    assert_silent(log, secrets)


def _prepare(directory: Path) -> TurnSecretFile:
    SERVER.write(directory)
    master = directory / "turn"
    master.write_text(MASTER)
    return TurnSecretFile(master)


def _secrets_of(sdp: str) -> set[str]:
    kinds = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:")
    return {line.partition(":")[2] for line in sdp.splitlines() if line.startswith(kinds)}
