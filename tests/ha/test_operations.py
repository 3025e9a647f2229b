"""What docs/operations.md tells operators to do, done as it is written there: upgrade, back up and restore.

The replicas, Redis and the nodes are real processes, and so is what happens to them.
"""

import asyncio
import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane.cli.demo_api import DemoApi, Seat
from controlplane.cli.demo_client import Call, stay_on_loopback
from controlplane.cli.demo_tally import Tally
from tests.fakes.waiting import eventually
from tests.ha.driver import ANSWER_WITHIN_S, read
from tests.ha.driving import driving
from tests.ha.system import KEY, ROOT, Process, System, running, until
from tests.store.servers import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

RATE = 50
"""Joins a second: what is asked is whether each is answered while processes start, not how many there can be."""
UPGRADED_WITHIN_S = 90.0
ENDED_WITHIN_S = 10.0
SETTLED_WITHIN_S = 30.0

ROOM = "call"
FRAMES = 20
"""Of each other participant: about a second of picture."""
MEDIA_WITHIN_S = 20.0
RESTORED_WITHIN_S = 20.0
BACKED_UP = ("ca", "api-keys", "signing-key.pem", "topology.yaml")
"""The CA, the keys and the topology. The certificates that the CA issued can be issued again."""
LOST = (*BACKED_UP, "tls/controlplane")

log = logging.getLogger(__name__)
"""Figures: `pytest -o log_cli=true --log-cli-level=INFO` shows them."""


def _lines(process: Process) -> list[dict[str, Any]]:
    """Return what a process has logged, the line that it is just writing left out."""
    lines = process.log.read_text("utf-8", errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


# --- upgrade -------------------------------------------------------------------------------------


async def test_replicas_are_upgraded_one_after_the_other_and_then_the_nodes(tmp_path: Path) -> None:
    """Every join is answered in time meanwhile, and no node is declared lost because replicas restart."""
    with closing(RedisServer()) as redis:
        async with running(tmp_path, redis.url) as system:
            urls = list(system.urls.values())
            async with driving(
                tmp_path, urls, UPGRADED_WITHIN_S, rate=RATE, is_cut_short=True
            ) as out:
                await _until_joined(system)
                for replica in system.replicas.values():
                    await _restart(replica)
                    await _until_normal(system)
                states = await asyncio.to_thread(_node_states, system.replicas.values())
                for node in system.nodes.values():
                    seen = len(await asyncio.to_thread(_node_states, system.replicas.values()))
                    await _restart(node)
                    await _until_back(system, node.name, seen)
            assert {name for name, state in states if state == "serving"} == set(system.nodes)
            assert [one for one in states if one[1] == "lost"] == []

            driver = await asyncio.to_thread(read, out)
            assert not driver.failed, driver.failed[:5]
            assert driver.slowest_s() <= ANSWER_WITHIN_S
            assert not driver.conflicts()
            assert any(one.tries > 1 for one in driver.told), "no restart was felt"
            seats = await _agreed(system)
            for one in driver.told:
                # Nobody of them ever came: their seats may have ended by now.
                place, epoch = seats.get((one.room, one.participant), (one.node, one.epoch))
                assert epoch >= one.epoch, one
                assert epoch > one.epoch or place == one.node, one
            log.info("%d joins, slowest %.3f s", len(driver.told), driver.slowest_s())


async def _until_joined(system: System) -> None:
    """Wait until the driver's joins have begun."""

    async def has_begun() -> bool:
        return all([await system.seats(name) for name in system.urls])

    await until(has_begun, "somebody has joined", [], SETTLED_WITHIN_S)


async def _restart(process: Process) -> None:
    """End a process as an upgrade does, and start it again."""
    assert process.child is not None
    process.send(signal.SIGTERM)
    code = await asyncio.to_thread(process.child.wait, ENDED_WITHIN_S)
    assert code == 0, await asyncio.to_thread(process.tail)
    await asyncio.to_thread(process.start)


async def _until_normal(system: System) -> None:
    """Wait until both replicas are ready and know both nodes."""

    async def is_normal() -> bool:
        health = [await system.health(name) for name in system.urls]
        return health == ["ready", "ready"] and await system.is_ready()

    everything = [*system.replicas.values(), *system.nodes.values()]
    await until(is_normal, "both replicas are ready", everything, SETTLED_WITHIN_S)


async def _until_back(system: System, node: str, seen: int) -> None:
    """Wait until a node that restarted serves again: whoever heard it said so, after the states seen before."""

    async def is_back() -> bool:
        states = await asyncio.to_thread(_node_states, system.replicas.values())
        return (node, "serving") in states[seen:]

    await until(is_back, f"{node} is back", [system.nodes[node]], SETTLED_WITHIN_S)
    await _until_normal(system)


def _node_states(replicas: Iterable[Process]) -> list[tuple[str, str]]:
    """Return the nodes' new states, in the order in which the replicas logged them."""
    lines = [line for replica in replicas for line in _lines(replica)]
    found = [line for line in lines if line.get("event") == "node state"]
    found.sort(key=lambda line: line["timestamp"])
    return [(line["node"], line["after"]) for line in found]


async def _agreed(system: System) -> Mapping[tuple[str, str], tuple[str, int]]:
    """Wait until both replicas say the same of everybody; return that."""
    seen: list[Mapping[tuple[str, str], tuple[str, int]]] = []

    async def agree() -> bool:
        seen[:] = [await system.seats(name) for name in system.urls]
        return seen[0] == seen[1]

    await until(agree, "the replicas agree", [], SETTLED_WITHIN_S)
    return seen[0]


# --- restore -------------------------------------------------------------------------------------


async def test_a_control_plane_is_restored_from_its_backup_under_a_running_call(
    tmp_path: Path,
) -> None:
    """Replicas, Redis and their files are lost at once. No session ends, and all seats are learned from the nodes.

    Between two nodes media may pause when the replicas are back, until both nodes have told them who they have.
    """
    stay_on_loopback(["http://127.0.0.1"])
    folder, backup = tmp_path / "live", tmp_path / "backup"
    await asyncio.to_thread(folder.mkdir)
    with closing(RedisServer()) as redis:
        async with running(folder, redis.url) as system, talking(system) as people:
            ana, bob = people["ana"], people["bob"]
            await _hear_each_other(ana, bob)
            before = await _everybody_is_seen(system, people)
            assert before[ROOM, "ana"][0] != before[ROOM, "bob"][0], "no link is part of the call"

            await asyncio.to_thread(_back_up, folder, backup)
            await asyncio.to_thread(_lose, folder, system, redis)
            for name in system.urls:
                assert (await system.get(name, "/healthz"))[0] == 0, "somebody still answers"
            await _hear_each_other(ana, bob)

            await asyncio.to_thread(_restore, folder, backup)
            await asyncio.to_thread(redis.start)
            assert (await asyncio.to_thread(redis.command, "DBSIZE")) == b":0\r\n"
            begun = time.monotonic()
            for replica in system.replicas.values():
                await asyncio.to_thread(replica.start)
            await _until_normal(system)
            after = await _everybody_is_seen(system, people)
            took = time.monotonic() - begun
            for key, (node, epoch) in before.items():
                assert after[key][0] == node, key
                assert after[key][1] >= epoch, key
            await _hear_each_other(ana, bob)

            # The nodes take a token of the restored key, and the call has one more.
            async with joined(system, "b", "eve") as eve:
                assert eve.seat.node in system.nodes
                await _hear(eve, ana, bob)
                await _everybody_is_seen(system, [*people, "eve"])
                await _hear_each_other(ana, bob)
            assert await asyncio.to_thread(_ended, system.nodes.values()) == {"eve"}
            log.info(
                "restored in %.1f s; longest silence: %s",
                took,
                {name: round(one.tally.longest_gap_s, 2) for name, one in people.items()},
            )


@dataclass(slots=True)
class TimedTally(Tally):
    """Remembers the longest time without a picture of somebody else, too."""

    longest_gap_s: float = 0.0
    _at: float = 0.0

    def count(self, kind: str, peer: str, hops: int) -> None:
        """Add one decoded frame."""
        Tally.count(self, kind, peer, hops)
        if kind == "video":
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - self._at if self._at else 0.0)
            self._at = now


@dataclass
class Person:
    """Somebody in the call."""

    name: str
    seat: Seat
    tally: TimedTally


@asynccontextmanager
async def talking(system: System) -> AsyncIterator[Mapping[str, Person]]:
    """Ana and Bob in a call, on two nodes. Fails when a session of theirs ends meanwhile."""
    async with (
        joined(system, "a", "ana") as ana,
        joined(system, "b", "bob", [ana.seat.node]) as bob,
    ):
        yield {"ana": ana, "bob": bob}


@asynccontextmanager
async def joined(
    system: System, replica: str, name: str, exclude: Sequence[str] = ()
) -> AsyncIterator[Person]:
    """A real client that joins at a replica, sends and receives. Fails when one of its sessions ends meanwhile."""
    tally = TimedTally()
    body = {"session": f"of-{name}", "exclude_nodes": list(exclude)}
    async with DemoApi(system.urls[replica], KEY) as api, aiohttp.ClientSession() as http:
        seat = await api.join(ROOM, name, body)
        call = Call(http, seat, len(name), tally)
        try:
            async with asyncio.timeout(MEDIA_WITHIN_S):
                await call.open()
            async with asyncio.TaskGroup() as group:
                carrying = group.create_task(call.carry(asyncio.Event()))
                yield Person(name, seat, tally)
                carrying.cancel()
        finally:
            await call.close()


async def _hear(one: Person, *others: Person) -> None:
    """Wait until somebody decodes what the others send from now on."""
    one.tally.forget()

    def missing() -> str | None:
        for other in others:
            heard = one.tally.by_peer.get(other.name)
            if heard is None or heard.video_frames < FRAMES or heard.audio_frames < FRAMES:
                return f"{one.name} decoded of {other.name}: {heard}"
        return None

    await eventually(missing, MEDIA_WITHIN_S)


async def _hear_each_other(one: Person, other: Person) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(one, other))
        group.create_task(_hear(other, one))


async def _everybody_is_seen(
    system: System, names: Sequence[str] | Mapping[str, Person]
) -> Mapping[tuple[str, str], tuple[str, int]]:
    """Wait until both replicas list exactly these people as live, in the same places; return those."""

    async def seen() -> str | None:
        for replica in system.urls:
            status, room = await system.get(replica, f"/v1/rooms/{ROOM}")
            if status != 200:
                return f"{replica}: {room}"
            live = {one["participant"] for one in room["participants"] if one["live"]}
            if live != set(names):
                return f"{replica} sees {live}"
        return None

    await eventually(seen, RESTORED_WITHIN_S)
    return await _agreed(system)


def _ended(nodes: Iterable[Process]) -> set[str]:
    """Return whose sessions the nodes say have ended, whoever ended them."""
    lines = [line for node in nodes for line in _lines(node)]
    return {line["participant"] for line in lines if line.get("event") == "session ended"}


def _back_up(folder: Path, backup: Path) -> None:
    backup.mkdir()
    for name in BACKED_UP:
        _copy(folder / name, backup / name)


def _lose(folder: Path, system: System, redis: RedisServer) -> None:
    """End all that is of the control plane, without a goodbye, and delete its files. Nodes run on."""
    for replica in system.replicas.values():
        assert replica.child is not None
        replica.child.kill()
        replica.child.wait()
    redis.kill()
    for name in LOST:
        lost = folder / name
        if lost.is_dir():
            shutil.rmtree(lost)
        else:
            lost.unlink()


def _restore(folder: Path, backup: Path) -> None:
    """Put back what was backed up, and let the CA issue the certificate that was not."""
    for name in BACKED_UP:
        _copy(backup / name, folder / name)
    issue = ("ca", "issue", "controlplane/ha", "--name", "127.0.0.1", "--name", "localhost")
    places = ("--dir", str(folder / "ca"), "--out", str(folder / "tls" / "controlplane"))
    command = [sys.executable, "-m", "controlplane", *issue, *places]
    subprocess.run(command, check=True, cwd=ROOT, timeout=SETTLED_WITHIN_S, capture_output=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
