"""What a million networks cost to remember, and what reading and writing one costs, beside a dict of dicts.

Each table fills a process of its own, since memory that was freed is not given back. Networks are confirmed again
in random order and some are new at the end, because that is the life that makes dictionaries grow.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from controlplane.core.learned import MAX_PREFIXES, REGIONS_EACH, LearnedRtts, network_of
from controlplane.core.model import RegionId

ROOT = Path(__file__).parents[2]
NETWORKS = MAX_PREFIXES
OPERATIONS = 100_000
NOW = 1_790_000_000.0
REGIONS = [RegionId(f"region-{n}") for n in range(16)]
LIMIT_MB = 200

Note = Callable[[str, RegionId, float, str, float], None]
Look = Callable[[str], object]


def _ours() -> tuple[Note, Look]:
    table = LearnedRtts()

    def note(network: str, region: RegionId, rtt_ms: float, session: str, now: float) -> None:
        table.note(network, region, rtt_ms, session=session, now=now)

    return note, lambda network: table.look(network, now=NOW + 60)


def _peer() -> tuple[Note, Look]:
    """The same knowledge as plainly as Python has it: the last votes by session and the time, and no limits."""
    table: dict[str, dict[RegionId, tuple[dict[str, float], float]]] = {}

    def note(network: str, region: RegionId, rtt_ms: float, session: str, now: float) -> None:
        votes, _ = table.setdefault(network, {}).setdefault(region, ({}, now))
        votes[session] = rtt_ms
        table[network][region] = (votes, now)

    return note, lambda network: table.get(network, {})


TABLES = {"ours": _ours, "peer": _peer}


def _network(index: int) -> str:
    """Three quarters IPv4, one quarter IPv6."""
    if index % 4:
        return network_of(f"{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}.1")
    return network_of(f"2001:{index >> 16:x}:{index & 0xFFFF:x}::1")


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def measure(which: str, networks: int) -> str:
    """Fill one table; return bytes per network, nanoseconds of a write and of a look-up."""
    rng = random.Random(7)  # noqa: S311 - a benchmark repeats itself
    empty = _resident()
    note, look = TABLES[which]()
    for third in range(REGIONS_EACH):
        for index in range(networks):
            region = REGIONS[(index * 7 + third) % len(REGIONS)]
            note(_network(index), region, 20.0 + index % 200, f"session-{third}", NOW + third)
    size = (_resident() - empty) / networks
    drawn = [rng.randrange(networks) for _ in range(OPERATIONS)]
    names = [_network(index) for index in drawn]
    homes = [REGIONS[index * 7 % len(REGIONS)] for index in drawn]
    began = time.process_time()
    for name, region in zip(names, homes, strict=True):
        note(name, region, 25.0, "again", NOW + 60)
    written = time.process_time()
    for name in names:
        look(name)
    read = time.process_time()
    for index in range(networks, networks + networks // 10):
        note(_network(index), REGIONS[0], 25.0, "new", NOW + 61)
    size = max(size, (_resident() - empty) / networks)
    return f"{size:.0f} {(written - began) / OPERATIONS * 1e9:.0f} {(read - written) / OPERATIONS * 1e9:.0f}"


def _run(which: str, networks: int) -> tuple[int, int, int]:
    command = [sys.executable, "-m", "tests.bench.learned", which, str(networks)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    size, write, read = map(int, done.stdout.split())
    return size, write, read


def report() -> str:
    """Return the figures in a line."""
    size, write, read = _run("ours", NETWORKS)
    their_size, their_write, their_read = _run("peer", NETWORKS // 10)
    total = size * NETWORKS / 1e6
    return (
        f"remembering {NETWORKS:,} networks of {REGIONS_EACH} regions: {size} B each, {total:.0f} MB "
        f"({'within' if total <= LIMIT_MB else 'OVER'} {LIMIT_MB} MB), {size / their_size:.2f} of a dict of dicts; "
        f"update {write} ns ({write / their_write:.1f} of its), look-up {read} ns ({read / their_read:.1f})"
    )


if __name__ == "__main__":
    print(measure(sys.argv[1], int(sys.argv[2])))  # noqa: T201 - the parent process reads it
