"""A network that falls apart, in namespaces: one host with the master, a replica and a node is cut off from the others.

Signalling servers on both sides go on joining. The side of the majority gets a new master; the other one answers
from what it knows. When the cut heals, both agree again.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.fakes.waiting import eventually_sync
from tests.ha.driver import ANSWER_WITHIN_S, Driver, read
from tests.ha.system import KEY, relay_command, serve_command, write_secrets
from tests.turn.network import Network

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

HTTP, GRPC, REDIS, SENTINEL = 8080, 9090, 6379, 26379
"""On hosts of their own, every port is free."""
RATE = 50
JOINS_FOR_S = 14.0
CUT_AT_S, CUT_FOR_S = 2.0, 7.0
START_WITHIN_S = 40.0
SETTLED_WITHIN_S = 30.0

log = logging.getLogger(__name__)
SIDES = {"one": "a", "two": "b"}
"""Host → its replica."""

SENTINEL_CONF = """\
port {port}
bind {host} 127.0.0.1
protected-mode no
dir {folder}
sentinel monitor thalweg {master} {redis} 2
sentinel down-after-milliseconds thalweg 1000
sentinel failover-timeout thalweg 5000
"""


def test_one_side_is_cut_off(tmp_path: Path) -> None:
    with Network("one", "two", "three") as network:
        _start(network, tmp_path)
        drivers = [_drive(network, host, tmp_path) for host in SIDES]
        time.sleep(CUT_AT_S)
        network.cut("one")
        time.sleep(CUT_FOR_S)
        network.join("one")
        for driver in drivers:
            assert driver.wait(40) == 0

        sides = {host: read(tmp_path / f"told-{host}.json") for host in SIDES}
        for host, side in sides.items():
            assert not side.failed, (host, side.failed[:3])
        told = [one for side in sides.values() for one in side.told]
        both = Driver((), "", told=told)
        assert both.slowest_s() <= ANSWER_WITHIN_S
        assert not both.conflicts()
        assert any(one.degraded for one in told), "the cut was not felt"

        seen: dict[str, Mapping[str, Any]] = {}

        def agreed() -> str | None:
            for host in SIDES:
                seen[host] = _look(network, host)
            one, two = seen.values()
            same = sorted(one["seats"]) == sorted(two["seats"])
            is_normal = one["health"] == two["health"] == "ready"
            return None if same and is_normal else "the sides do not agree"

        begun = time.monotonic()
        eventually_sync(agreed, SETTLED_WITHIN_S)
        took = time.monotonic() - begun
        log.info(
            "%d joins, slowest %.2f s, agreed %.1f s after the last",
            len(told),
            both.slowest_s(),
            took,
        )
        seats = {(room, who): (node, epoch) for room, who, node, epoch in seen["one"]["seats"]}
        for one in told:
            assert (one.room, one.participant) in seats, one
            if not one.degraded:
                assert seats[one.room, one.participant][1] >= one.epoch, one


def _start(network: Network, folder: Path) -> None:
    hosts = network.hosts
    write_secrets(folder, [host.ipv4 for host in hosts.values()])
    for name, host in hosts.items():
        data = folder / f"redis-{name}"
        data.mkdir()
        follow = () if name == "one" else ("--replicaof", f"{hosts['one'].ipv4} {REDIS}")
        network.start(
            name,
            *(require("redis-server"), "--port", str(REDIS), "--bind", host.ipv4, "127.0.0.1"),
            *("--protected-mode", "no", "--save", "", "--dir", str(data), *follow),
            log=folder / f"redis-{name}.log",
        )
    time.sleep(1.5)
    for name, host in hosts.items():
        conf = folder / f"sentinel-{name}.conf"
        text = SENTINEL_CONF.format(
            port=SENTINEL,
            host=host.ipv4,
            folder=folder / f"redis-{name}",
            master=hosts["one"].ipv4,
            redis=REDIS,
        )
        conf.write_text(text, "utf-8")
        network.start(
            name, "redis-server", str(conf), "--sentinel", log=folder / f"sentinel-{name}.log"
        )
    time.sleep(3)  # Sentinels find each other through the master, every two seconds
    sentinels = ",".join(f"{host.ipv4}:{SENTINEL}" for host in hosts.values())
    url = f"redis+sentinel://{sentinels}/thalweg"
    targets = [f"{hosts[name].ipv4}:{GRPC}" for name in SIDES]
    for (name, replica), region in zip(SIDES.items(), ("eu-a", "eu-b"), strict=True):
        address = hosts[name].ipv4
        network.start(
            name,
            *serve_command(folder, replica, HTTP, GRPC, url, address),
            log=folder / f"{replica}.log",
        )
        network.start(
            name,
            *relay_command(folder, region, targets, (7001, 7002, 7003, 7004), address),
            log=folder / f"{region}.log",
        )

    def ready() -> str | None:
        knows = all(_look(network, host)["ready"] for host in SIDES)
        return None if knows else f"a replica does not know both nodes; the logs are in {folder}"

    eventually_sync(ready, START_WITHIN_S)


def _drive(network: Network, host: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a signalling server beside a replica, which knows the other one, too."""
    urls = [f"http://{network.hosts[name].ipv4}:{HTTP}" for name in SIDES]
    if host != "one":
        urls.reverse()
    return network.start(
        host,
        *(sys.executable, "-m", "tests.ha.driver", str(folder / f"told-{host}.json")),
        *(KEY, str(RATE), str(JOINS_FOR_S), f"{host}-", *urls),
        log=folder / f"driver-{host}.log",
    )


def _look(network: Network, host: str) -> Mapping[str, Any]:
    url = f"http://{network.hosts[host].ipv4}:{HTTP}"
    found: Mapping[str, Any] = json.loads(
        network.hosts[host].run(sys.executable, "-m", "tests.ha.look", url)
    )
    return found
